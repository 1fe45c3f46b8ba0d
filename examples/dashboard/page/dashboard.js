// The page of the dashboard: a connection that is made again when it is lost, the charts, and
// the controls of the test clients.

import { Chart, binary, decimal, element, span } from "./chart.js";

const $ = (id) => document.getElementById(id);

// ---- Numbers ---------------------------------------------------------------

const number = (n) => n.toLocaleString("en", n < 10_000
  ? { maximumFractionDigits: n < 10 ? 1 : 0 }
  : { notation: "compact", maximumSignificantDigits: 3 });

function milliseconds(n) {
  const [value, unit] = n < 1000 ? [n, "ms"] : [n / 1000, "s"];
  return `${value.toLocaleString("en", { maximumSignificantDigits: value < 100 ? 2 : 3 })} ${unit}`;
}

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB"];
  const power = Math.min(Math.floor(Math.log2(Math.max(n, 1)) / 10), units.length - 1);
  return `${number(n / 1024 ** power)} ${units[power]}`;
}

function duration(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
}

// ---- The charts ------------------------------------------------------------

const answered = (s, n) => (s.rtt.max > 0 ? n : null); // no connection has answered a ping

const charts = [
  new Chart({
    id: "open", title: "Connections",
    series: [{ label: "Open", value: (s) => s.open }],
    format: number, step: (least) => decimal(Math.max(1, least)),
  }),
  new Chart({
    id: "messages", title: "Messages",
    series: [{ label: "Received", value: (s) => s.received }, { label: "Sent", value: (s) => s.sent }],
    format: (n) => `${number(n)}/s`, step: (least) => decimal(Math.max(1, least)),
  }),
  new Chart({
    id: "rtt", title: "Round trip time",
    series: [
      { label: "Median", value: (s) => answered(s, s.rtt.median) },
      { label: "Slowest", value: (s) => answered(s, s.rtt.max) },
    ],
    format: milliseconds, step: (least) => decimal(Math.max(0.1, least)),
  }),
  new Chart({
    id: "queues", title: "Send queues",
    series: [{ label: "All", value: (s) => s.queued.sum }, { label: "Longest", value: (s) => s.queued.max }],
    format: bytes, step: binary,
  }),
];

let samples = []; // of the last span, oldest first
let cursor = null; // the sample that the user looks at, or null for the newest

function draw() {
  charts.forEach((chart) => chart.draw(samples, cursor));
  const s = samples.at(-1);
  if (!s) return;
  $("uptime").textContent = duration(s.time - s.started);
  $("accepted").textContent = number(s.accepted);
  $("refused").textContent = number(s.refused);
  $("ended-now").textContent = number(Object.values(s.closed).reduce((sum, n) => sum + n, 0));
  $("bytes-received").textContent = `${bytes(s.bytesReceived)}/s`;
  $("bytes-sent").textContent = `${bytes(s.bytesSent)}/s`;
  showCodes(s.closed);
}

const meanings = {
  1000: "normal closure", 1001: "going away", 1002: "protocol error", 1003: "unsupported data",
  1005: "no code was sent", 1006: "the connection failed", 1007: "invalid payload", 1008: "policy violation",
  1009: "message too big", 1011: "internal error", 1012: "service restart", 1013: "try again later",
};

function showCodes(closed) {
  const codes = Object.keys(closed);
  $("codes").hidden = codes.length === 0;
  $("no-codes").hidden = codes.length > 0;
  $("codes").tBodies[0].replaceChildren(...codes.map((code) => element("tr", {},
    element("th", { scope: "row" }, code),
    element("td", {}, meanings[code] ?? ""),
    element("td", {}, number(closed[code])))));
}

// moveTo moves the cursor to the sample at an index, and to none at the newest.
function moveTo(index) {
  cursor = index < samples.length - 1 ? samples[Math.max(0, index)] : null;
  draw();
}

const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity, Escape: Infinity };

for (const chart of charts) {
  const { plot } = chart;
  $("charts").append(chart.figure);
  const point = (event) => {
    if (samples.length === 0) return;
    const time = chart.timeAt(event.clientX, samples);
    const after = samples.findIndex((s) => s.time >= time - 500);
    moveTo(after < 0 ? samples.length : after);
  };
  plot.addEventListener("pointermove", point);
  plot.addEventListener("pointerdown", point);
  plot.addEventListener("pointerleave", () => moveTo(Infinity));
  plot.addEventListener("blur", () => moveTo(Infinity));
  plot.addEventListener("keydown", (event) => {
    if (!(event.key in steps)) return;
    event.preventDefault();
    moveTo((cursor ? samples.indexOf(cursor) : samples.length - 1) + steps[event.key]);
  });
}

new ResizeObserver(draw).observe($("charts"));

// ---- The connection --------------------------------------------------------

let socket = null; // the current WebSocket; events of older ones are ignored
let attempts = 0; // attempts to connect since the last message
let retry = 0; // the timer of the next attempt, or 0
let silence = 0; // the timer that ends a connection without messages

function connect() {
  disconnect();
  status("Connecting…");
  const url = new URL("stats", location);
  url.protocol = url.protocol.replace("http", "ws");
  const ws = new WebSocket(url);
  socket = ws;
  ws.onmessage = ({ data }) => ws === socket && receive(JSON.parse(data));
  ws.onclose = ({ code }) => ws === socket && reconnectLater(code === 1001 ? "Server restarting" : "Connection lost");
  expectMessage();
}

// expectMessage reconnects if no message arrives, because some network failures cause no
// event. The server sends a message each second.
function expectMessage() {
  clearTimeout(silence);
  silence = setTimeout(() => reconnectLater("No answer"), 10_000);
}

function receive(message) {
  expectMessage();
  attempts = 0;
  status("Live", true);
  message.samples.forEach((s) => { s.started = message.started; });
  // The history of a new connection repeats samples that the page has.
  const newest = samples.at(-1)?.time ?? 0;
  samples.push(...message.samples.filter((s) => s.time > newest));
  const end = samples.at(-1)?.time ?? 0;
  samples = samples.filter((s) => s.time >= end - span);
  if (!samples.includes(cursor)) cursor = null;
  draw();
}

function disconnect() {
  clearTimeout(retry);
  clearTimeout(silence);
  retry = 0;
  $("now").hidden = true;
  const ws = socket;
  socket = null;
  ws?.close(1000);
}

// reconnectLater connects again after a delay. The delay doubles with each attempt, so that a
// server with problems is not flooded. Up to half of the delay is left out at random, so that
// not all pages connect at the same time.
function reconnectLater(cause) {
  disconnect();
  const delay = Math.min(30_000, 500 * 2 ** attempts++) * (0.5 + Math.random() / 2);
  retry = setTimeout(connect, delay);
  status(`${cause}…`);
  $("now").hidden = false;
}

function status(text, isLive = false) {
  if ($("status").textContent !== text) $("status").textContent = text; // announced only when it changes
  document.body.classList.toggle("live", isLive);
}

$("now").addEventListener("click", connect);

// When the network is available again, or the page becomes visible, connect at once.
addEventListener("online", () => retry && connect());
document.addEventListener("visibilitychange", () => retry && !document.hidden && connect());

// ---- The test clients ------------------------------------------------------

const maxClients = 100; // the same as in clients.js

let worker = startWorker();

function startWorker() {
  const w = new Worker("clients.js");
  w.onmessage = ({ data }) => w === worker && showClients(data);
  return w;
}

// command sends the settings to the clients, and what they should do.
function command(what = {}) {
  worker.postMessage({
    settings: {
      rate: $("rate").valueAsNumber,
      size: Number($("size").value),
      answers: Number($("answers").value),
      slow: $("slow").checked,
    },
    ...what,
  });
}

function showClients({ open, all, closed }) {
  $("open-clients").disabled = all >= maxClients;
  $("close-clients").disabled = all === 0;
  const ended = Object.entries(closed).map(([code, n]) => ` ${n} ended with ${code} (${meanings[code] ?? "other"}).`);
  const text = `${open === 1 ? "1 client is" : `${open || "No"} clients are`} open.${ended.join("")}`;
  if ($("clients-now").textContent !== text) $("clients-now").textContent = text; // announced only when it changes
}

$("controls").addEventListener("submit", (event) => {
  event.preventDefault();
  command({ open: $("count").valueAsNumber });
});

// A new worker takes the place of the old one, which may be slow to read the command and is ended
// after a second.
$("close-clients").addEventListener("click", () => {
  command({ close: true });
  const old = worker;
  setTimeout(() => old.terminate(), 1000);
  worker = startWorker();
  showClients({ open: 0, all: 0, closed: {} });
});

for (const id of ["rate", "size", "answers", "slow"]) {
  $(id).addEventListener("input", () => {
    $("rate-now").textContent = `${$("rate").value} messages/s`;
    command();
  });
}

command();
connect();
