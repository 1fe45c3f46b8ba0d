// The browser's side of the chat: a connection that is made again when it is lost, to any
// process, and that continues behind the last message that the page has. Names and messages
// are put into the page as text, never as HTML.

const $ = (id) => document.getElementById(id);

const maxShown = 500; // messages kept on the page
const answerWithin = 10_000;
const silentFor = 50_000; // the server sends an event every 20 seconds

// NATS recognizes a message that is sent again for two minutes. After that, the page does
// not send it again by itself.
const repeatWithin = 110_000;

let me = sessionStorage.getItem("name"); // kept as long as the tab exists

// randomID replaces crypto.randomUUID, which browsers do not offer to pages that were
// loaded over plain HTTP from another machine.
function randomID() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

// ---- The connection -------------------------------------------------------

let socket = null; // the current WebSocket; events of older ones are ignored
let live = false; // whether the page has all messages
let since = 0; // the time when it got them, in milliseconds
let heard = 0; // the time of the last event
let attempts = 0; // attempts to connect since a connection lasted for 5 seconds
let retry = 0; // the timer of the next attempt, or 0
let silence = 0; // the timer that ends a connection without events

// The position of the page: the stream, and the number and the time of the last message in it.
// The server sends what comes behind it.
let stream = "";
let last = 0;
let lastTime; // undefined if it is not known

function connect() {
  disconnect();
  status("Connecting…");
  const url = new URL("chat", location);
  url.protocol = url.protocol.replace("http", "ws");
  const ws = new WebSocket(url);
  socket = ws;
  ws.onopen = () => ws.send(JSON.stringify({ name: me, stream, last, time: lastTime }));
  ws.onmessage = ({ data }) => ws === socket && receive(JSON.parse(data));
  ws.onclose = ({ code, reason }) => ws === socket && closed(code, reason);
  expectAnswer();
}

// expectAnswer reconnects if no event comes for some time, because some network failures
// cause no event of the WebSocket. A page that asks nothing notices them later, by silence.
function expectAnswer() {
  const ws = socket;
  const asked = Date.now();
  setTimeout(() => ws === socket && heard < asked && reconnectLater("no answer"), answerWithin);
}

// disconnect closes the connection and ignores its later events. It does not wait for
// the close event, which may take minutes if the network has failed.
function disconnect() {
  clearTimeout(retry);
  clearTimeout(silence);
  retry = 0;
  $("now").hidden = true;
  const ws = socket;
  socket = null;
  ws?.close(1000);
}

const policyViolation = 1008;
const causes = { 1001: "server stopping", 1012: "the history began again", 1013: "the connection was too slow" };

function closed(code, reason) {
  if (code === policyViolation) {
    leave(reason); // a new connection would break the same rule again
    return;
  }
  reconnectLater(causes[code] ?? "connection lost");
}

// reconnectLater connects again after a delay. The delay doubles with each attempt, so
// that servers with problems are not flooded. Its length is random, so that the pages of a
// process that has ended do not all come to the other processes at the same time.
function reconnectLater(cause) {
  disconnect();
  if (live && Date.now() - since > 5000) attempts = 0;
  const longest = Math.min(30_000, 1000 * 2 ** attempts++);
  retry = setTimeout(connect, 100 + longest * Math.random());
  status(`${sentence(cause)}…`);
  $("now").hidden = false;
}

function status(text, isLive = false) {
  live = isLive;
  $("status").textContent = text;
  $("status").classList.toggle("live", live);
}

// ---- Receiving ------------------------------------------------------------

let server = ""; // the process of this connection
let connected = true; // whether that process is connected to NATS

function receive(event) {
  heard = Date.now();
  clearTimeout(silence);
  silence = setTimeout(() => reconnectLater("no answer"), silentFor);
  switch (event.type) {
    case "welcome":
      return welcome(event);
    case "said":
      moveTo(event);
      return show(event);
    case "missed":
      moveTo(event);
      return notice(`${event.count} older ${event.count === 1 ? "message is" : "messages are"} not available any more`);
    case "live":
      since = Date.now();
      status(`Connected to ${server}`, true);
      return busChanged(event.connected);
    case "bus":
      return busChanged(event.connected);
    case "stored":
      unconfirmed.delete(event.id);
      return note(event.id, "sent");
    case "failed":
      return failed(event);
  }
}

function welcome(event) {
  me = event.name;
  server = event.server;
  sessionStorage.setItem("name", me);
  if (event.reset) notice("The history began again");
  stream = event.stream;
  moveTo(event);
  status("Catching up…");
}

// moveTo sets the position to that of an event.
function moveTo(event) {
  last = event.seq ?? 0;
  lastTime = event.time;
}

function busChanged(now) {
  connected = now;
  $("away").hidden = connected;
  $("away").textContent = connected ? "" : "Messages wait, because the servers are not connected to each other at the moment.";
  if (connected) for (const id of unconfirmed.keys()) send(id);
}

// ---- Sending --------------------------------------------------------------

// The texts by ID that this page has sent and that are not stored for all it knows. They are
// sent again, also on a new connection. NATS stores each ID once.
const unconfirmed = new Map();

function say(text) {
  const id = randomID();
  unconfirmed.set(id, text);
  show({ id, text, name: me });
  scrollToEnd();
  setTimeout(() => giveUp(id), repeatWithin);
  send(id);
}

function send(id) {
  if (!unconfirmed.has(id)) return;
  if (!live || !connected) return note(id, "waiting…");
  note(id, "sending…");
  socket.send(JSON.stringify({ id, text: unconfirmed.get(id) }));
  expectAnswer();
}

// failed sends a message again later. If the process is not connected to NATS, an event
// says when it is.
function failed({ id, reason }) {
  note(id, "waiting…", reason);
  setTimeout(() => send(id), 2000 + 2000 * Math.random());
}

// giveUp lets the user decide, because NATS may store the message twice from now on.
function giveUp(id) {
  const text = unconfirmed.get(id);
  if (text === undefined) return;
  unconfirmed.delete(id);
  note(id, "not sent");
  const again = element("button", "again-button", "Send again");
  again.addEventListener("click", () => {
    shown.get(id)?.remove();
    shown.delete(id);
    say(text);
  });
  shown.get(id)?.querySelector(".bubble").append(again);
}

// ---- The page -------------------------------------------------------------

const shown = new Map(); // the elements of the messages, by message ID

// show adds a message to the page. A message without a number was sent by this page and is
// not confirmed. When it comes back, show moves it to its place in the order of all messages.
function show(message) {
  const old = shown.get(message.id);
  if (old?.dataset.seq) return; // another client used the ID again after a long time
  old?.remove();
  if (message.seq) unconfirmed.delete(message.id);
  const item = messageElement(message);
  shown.set(message.id, item);
  append(item);
}

function messageElement({ id, name, text, time, seq, server: via }) {
  const mine = name === me;
  const before = $("messages").lastElementChild;
  const item = element("li", "message");
  item.dataset.id = id;
  item.dataset.name = name;
  item.dataset.via = via ?? "";
  if (seq) item.dataset.seq = seq;
  item.classList.toggle("mine", mine);
  item.classList.toggle("pending", !seq);
  item.classList.toggle("again", before?.dataset.name === name && before?.dataset.via === (via ?? ""));
  item.style.setProperty("--hue", hue(name));

  const author = element("p", "author");
  author.append(element("bdi", "name", mine ? "You" : name));
  if (via) author.append(element("span", "via", `via ${via}`));
  const bubble = element("div", "bubble");
  const words = element("span", "words", text);
  words.dir = "auto";
  bubble.append(words, seq ? clock(time) : element("time", "", "sending…"));
  item.append(author, bubble);
  return item;
}

// note changes the text behind a message that is not confirmed.
function note(id, text, reason = "") {
  const item = shown.get(id);
  if (!item?.classList.contains("pending")) return;
  const time = item.querySelector("time");
  time.textContent = text;
  time.title = reason;
}

function clock(time) {
  const at = element("time", "", new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  at.dateTime = time;
  return at;
}

function notice(text) {
  append(element("li", "notice", text));
}

let atEnd = true; // whether the list is scrolled to its end

function append(item) {
  const list = $("messages");
  list.append(item);
  while (list.childElementCount > maxShown) {
    shown.delete(list.firstElementChild.dataset.id);
    list.firstElementChild.remove();
  }
  if (atEnd) scrollToEnd();
  else $("newer").hidden = false;
}

function scrollToEnd() {
  $("log").scrollTop = $("log").scrollHeight;
}

// hue returns a color angle for a name. Steps of the golden angle spread the names over
// all colors.
function hue(name) {
  let hash = 0;
  for (const c of name) hash = (hash * 31 + c.codePointAt(0)) % 9973;
  return Math.round(hash * 137.508) % 360;
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function element(tag, className = "", text = "") {
  const e = document.createElement(tag);
  e.className = className;
  e.textContent = text;
  return e;
}

// ---- Joining and leaving --------------------------------------------------

function enter() {
  $("login").hidden = true;
  $("room").hidden = false;
  $("text").focus();
  connect();
}

function leave(reason = "") {
  disconnect();
  attempts = 0;
  stream = "";
  moveTo({});
  sessionStorage.removeItem("name");
  unconfirmed.clear();
  shown.clear();
  $("messages").replaceChildren();
  $("away").hidden = true;
  $("room").hidden = true;
  $("login").hidden = false;
  $("refusal").textContent = sentence(reason);
  $("name").value = me ?? "";
  $("name").focus();
}

$("join").addEventListener("submit", (event) => {
  event.preventDefault();
  me = $("name").value.normalize("NFKC").trim();
  if (me) enter();
});

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  $("text").value = "";
  $("text").focus();
  if (text) say(text);
});

$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});

$("leave").addEventListener("click", () => leave());
$("now").addEventListener("click", connect);
$("newer").addEventListener("click", scrollToEnd);

$("log").addEventListener("scroll", () => {
  const { scrollHeight, scrollTop, clientHeight } = $("log");
  atEnd = scrollHeight - scrollTop - clientHeight < 60;
  if (atEnd) $("newer").hidden = true;
});

// The keyboard of a phone shrinks the list, which should stay at its end.
new ResizeObserver(() => atEnd && scrollToEnd()).observe($("log"));

// When the network is available again, or the page becomes visible, connect at once.
addEventListener("online", () => retry && connect());
document.addEventListener("visibilitychange", () => retry && !document.hidden && connect());

if (me) enter();
else leave();
