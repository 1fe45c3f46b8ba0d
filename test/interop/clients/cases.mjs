// The cases of the clients with the browser's WebSocket API: Chromium and Firefox, which
// import this file into a page, and ws and undici on Node.

const text = "Grüße, 世界 🌍";
const mebibyte = 1 << 20;
const closing = { code: 4001, reason: "closed by the client: ✓" };
const closed = { code: 4002, reason: "closed by the server: ✓" };

const hold = 7000; // in milliseconds

// A Session turns the events of a WebSocket into promises.
class Session {
  #inbox = [];
  #wake = () => {};
  #end = null;

  constructor(socket) {
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.addEventListener("message", ({ data }) => this.#update(() => this.#inbox.push(data)));
    socket.addEventListener("close", (event) => this.#update(() => (this.#end = event)));
    socket.addEventListener("error", (event) => (this.error = event.error ?? event.message));
  }

  #update(change) {
    change();
    this.#wake();
  }

  async #until(condition) {
    while (!condition()) {
      await new Promise((resolve) => (this.#wake = resolve));
    }
  }

  async open() {
    await new Promise((resolve) => {
      this.socket.addEventListener("open", resolve);
      this.socket.addEventListener("close", resolve);
    });
    if (this.socket.readyState !== 1 && this.error) {
      throw new Error(`not connected: ${this.error}`);
    }
    return this;
  }

  async receive() {
    await this.#until(() => this.#inbox.length > 0 || this.#end);
    if (this.#inbox.length === 0) {
      throw new Error(`closed with ${this.#end.code} ${this.#end.reason}`);
    }
    return this.#inbox.shift();
  }

  async expect(want) {
    const got = await this.receive();
    if (!same(got, want)) {
      throw new Error(`got ${describe(got)}, want ${describe(want)}`);
    }
  }

  async echo(message) {
    this.socket.send(message);
    await this.expect(message);
  }

  async close(code = 1000, reason = "") {
    this.socket.close(code, reason);
    await this.closed(code, "");
  }

  // hold waits, and then closes the connection unless it has ended. The server knows how it
  // has ended.
  async hold(milliseconds) {
    const end = new Promise((resolve) => this.socket.addEventListener("close", resolve));
    await Promise.race([end, new Promise((resolve) => setTimeout(resolve, milliseconds))]);
    this.socket.close(1000);
    await this.#until(() => this.#end);
  }

  async closed(code, reason) {
    await this.#until(() => this.#end);
    const got = this.#end;
    if (!got.wasClean || got.code !== code || got.reason !== reason) {
      throw new Error(`closed with ${got.code} "${got.reason}", clean: ${got.wasClean}; want ${code} "${reason}"`);
    }
  }
}

function same(a, b) {
  if (typeof a === "string" || typeof b === "string") {
    return a === b;
  }
  const [x, y] = [new Uint8Array(a), new Uint8Array(b)];
  return x.length === y.length && x.every((byte, i) => byte === y[i]);
}

function describe(message) {
  if (typeof message !== "string") {
    return `${message.byteLength} bytes`;
  }
  return message.length < 100 ? JSON.stringify(message) : `a string of ${message.length}`;
}

const bytes = (length) => Uint8Array.from({ length }, (_, i) => i % 251).buffer;
const fragmentsAnswer = (count, message) => `${count}: ${message}` + "a".repeat(5000) + "b".repeat(5000);

// block blocks the thread. Node can wait without using the processor, and a page cannot.
function block(milliseconds) {
  if (globalThis.process) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
    return;
  }
  const end = Date.now() + milliseconds;
  while (Date.now() < end);
}

// variedMessage returns message i: JSON of different sizes, bytes that do not become smaller,
// and empty messages.
function variedMessage(i) {
  const below = (n) => Math.floor(Math.random() * n);
  const price = (j) =>
    `{"type":"ticker","sequence":${i * 1000 + j},"price":"${(Math.random() * 1000).toFixed(2)}",` +
    `"side":"${["buy", "sell"][below(2)]}","name":"Größe ${below(1000)}"},`;
  const json = (count) => Array.from({ length: count }, (_, j) => price(j)).join("");
  switch (i % 10) {
    case 0:
      return "é".repeat(Math.floor(i / 10) % 5);
    case 1:
      return Uint8Array.from({ length: below(200) }, () => below(256)).buffer;
    case 2:
      return new TextEncoder().encode(json(1 + below(5))).buffer;
    case 3:
      return json(1 + below(300));
  }
  return json(1);
}

// manyMessages is for compression.
async function manyMessages(open) {
  const session = await open();
  try {
    for (let i = 0; i < 2000; i++) {
      await session.echo(variedMessage(i));
    }
  } catch (error) {
    session.socket.close(); // an open connection would keep Node running
    throw error;
  }
  await session.close();
}

// Each case gets a function that opens a Session with the server's handler for the case,
// and the client's functions that are not in the browser's API.
const cases = {
  async text(open) {
    const session = await open();
    await session.echo(text);
    await session.echo("");
    await session.close();
  },
  async binary(open) {
    const session = await open();
    await session.echo(bytes(256));
    await session.echo(bytes(0));
    await session.close();
  },
  async large(open) {
    const session = await open();
    await session.echo("x".repeat(mebibyte));
    await session.echo(bytes(mebibyte));
    await session.close();
  },
  async "send-fragments"(open, { sendFragments }) {
    const session = await open();
    sendFragments(session.socket, ["frag", "men", "ted"]);
    await session.expect(fragmentsAnswer(3, "fragmented"));
    await session.close();
  },
  async "receive-fragments"(open) {
    const session = await open();
    session.socket.send(text);
    await session.expect(fragmentsAnswer(1, text));
    await session.close();
  },
  async "client-ping"(open, { ping }) {
    const session = await open();
    const pong = await ping(session.socket, "are you there?");
    if (pong !== "are you there?") {
      throw new Error(`got a pong with ${JSON.stringify(pong)}, want the payload of the ping`);
    }
    await session.close();
  },
  async "server-ping"(open) {
    const session = await open();
    await session.expect("pong");
    await session.close();
  },
  async subprotocol(open) {
    const session = await open(["chat.v0", "chat.v1"]);
    await session.expect("chat.v1");
    if (session.socket.protocol !== "chat.v1") {
      throw new Error(`the client has the subprotocol "${session.socket.protocol}", want "chat.v1"`);
    }
    await session.close();
  },
  async "client-close"(open) {
    const session = await open();
    await session.close(closing.code, closing.reason);
  },
  async "server-close"(open) {
    const session = await open();
    await session.closed(closed.code, closed.reason);
  },
  "deflate-default": manyMessages,
  "deflate-alone": manyMessages,
  "deflate-window": manyMessages,
  async silent(open) {
    await (await open()).hold(hold);
  },
  // The thread of the script is blocked.
  async blocked(open) {
    const session = await open();
    block(hold);
    await session.hold(500);
  },
  async idle(open) {
    const session = await open();
    await session.expect("awake");
    await session.echo("thanks");
    await session.close();
  },
};

// run runs the named cases in order. For each it calls report with the name and the error,
// or null.
export async function run(client, base, names, report) {
  for (const name of names) {
    const open = (protocols = []) => new Session(new client.WebSocket(base + name, protocols)).open();
    try {
      await cases[name](open, client);
      report(name, null);
    } catch (error) {
      report(name, String(error));
    }
  }
}

// main runs the cases on the command line. Its first argument is the base URL.
export async function main(client) {
  const [base, ...names] = process.argv.slice(2);
  await run(client, base, names, (name, error) => {
    console.log(error === null ? `ok ${name}` : `failed ${name}: ${error}`);
    process.exitCode ||= error === null ? 0 : 1;
  });
}
