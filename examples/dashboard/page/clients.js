// The test clients. They run in a Web Worker, so that they do not hold up the charts.

const maxClients = 100; // at the same time
const tick = 50; // milliseconds between two looks at what is due
const maxUnsent = 1 << 20; // bytes that wait in the browser before a client skips messages
const slowness = 25; // milliseconds that a slow client takes for a message

const url = new URL("echo", self.location);
url.protocol = url.protocol.replace("http", "ws");

const clients = new Map(); // the sockets, with the number of messages that each has to send
let settings = { rate: 0, size: 0, answers: 1, slow: false };
let closed = {}; // the number of clients that the server has closed, by code

onmessage = ({ data }) => {
  settings = data.settings;
  if (data.close) for (const ws of clients.keys()) ws.close(1000);
  for (let i = 0; i < data.open && clients.size < maxClients; i++) open();
  report();
};

function open() {
  const ws = new WebSocket(url);
  clients.set(ws, Math.random()); // so that not all clients send at the same time
  ws.onopen = report;
  ws.onmessage = () => settings.slow && block(slowness);
  ws.onclose = ({ code }) => {
    clients.delete(ws);
    if (code !== 1000) closed[code] = (closed[code] ?? 0) + 1;
    report();
  };
}

// block does nothing for a while. The browser then stops reading from the network, which
// there is no method for.
function block(ms) {
  for (const end = performance.now() + ms; performance.now() < end;);
}

let last = performance.now();

setInterval(() => {
  const now = performance.now();
  const fresh = settings.rate * (now - last) / 1000;
  last = now;
  const text = `${settings.answers} `.padEnd(settings.size, "x");
  for (const [ws, due] of clients) {
    if (ws.readyState !== WebSocket.OPEN) continue;
    let left = Math.min(due + fresh, settings.rate); // at most a second is caught up
    for (; left >= 1; left--) {
      if (ws.bufferedAmount < maxUnsent) ws.send(text);
    }
    clients.set(ws, left);
  }
}, tick);

let reporting = 0; // the timer of the next report, or 0

// report tells the page how many clients there are. It waits a moment, so that a screen reader
// does not announce each of a hundred clients.
function report() {
  reporting ||= setTimeout(() => {
    reporting = 0;
    const open = [...clients.keys()].filter((ws) => ws.readyState === WebSocket.OPEN).length;
    postMessage({ open, all: clients.size, closed });
  }, 200);
}
