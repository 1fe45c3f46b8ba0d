// Opens WebSockets as streams of one connection of Node's http2 client, and checks their echoes and
// their ends. It prints ok, or what is wrong.

import assert from "node:assert";
import http2 from "node:http2";
import { once } from "node:events";

const session = http2.connect(process.argv[2], { rejectUnauthorized: false });
const [settings] = await once(session, "remoteSettings");
assert.equal(settings.enableConnectProtocol, true);

// frame returns a masked frame with a key of zeros. The payload is shorter than 126 bytes.
function frame(first, payload) {
  const body = Buffer.from(payload);
  return Buffer.concat([Buffer.from([first, 0x80 | body.length, 0, 0, 0, 0]), body]);
}

async function open() {
  const stream = session.request({
    ":method": "CONNECT", ":protocol": "websocket", ":path": "/ws", "sec-websocket-version": "13",
  });
  const [headers] = await once(stream, "response");
  assert.equal(headers[":status"], 200);
  return stream;
}

// receive returns the payload of a frame with this first byte.
async function receive(stream, first) {
  const [data] = await once(stream, "data");
  assert.equal(data[0], first);
  assert.equal(data[1], data.length - 2);
  return data.subarray(2);
}

const streams = await Promise.all(Array.from({ length: 20 }, open));
await Promise.all(streams.map(async (stream, i) => {
  stream.write(frame(0x81, "message " + i));
  assert.equal((await receive(stream, 0x81)).toString(), "message " + i);
  stream.write(frame(0x89, "?"));
  assert.equal((await receive(stream, 0x8a)).toString(), "?");
}));

// The client closes.
for (const stream of streams) {
  stream.write(frame(0x88, Buffer.from([0x0f, 0xa1])));
  assert.deepEqual([...await receive(stream, 0x88)], [0x0f, 0xa1]);
  await once(stream, "end");
}

// The server closes.
const closed = await open();
closed.write(frame(0x81, "close"));
const payload = await receive(closed, 0x88);
assert.equal(payload.readUInt16BE(0), 4002);
assert.equal(payload.subarray(2).toString(), "closed by the server: ✓");
closed.end(frame(0x88, Buffer.from([0x0f, 0xa2])));
await once(closed, "end");

// The server resets the stream.
const cut = await open();
cut.write(frame(0x81, "cut"));
const [error] = await once(cut, "error");
assert.equal(error.code, "ERR_HTTP2_STREAM_ERROR");

session.close();
console.log("ok");
