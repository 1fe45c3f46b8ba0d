// The browser's side of the chat: a connection that is made again when it is lost, and
// the page of the room. Names and messages are put into the page as text, never as HTML.

const $ = (id) => document.getElementById(id);

const maxShown = 500; // messages kept on the page
const silentFor = 50_000; // the server sends an event every 20 seconds

// sessionStorage keeps the name and the key for as long as the tab exists, so a reload
// returns to the room under the same name.
const me = {
  name: sessionStorage.getItem("name"),
  key: sessionStorage.getItem("key") ?? randomID(),
};
sessionStorage.setItem("key", me.key);

// randomID replaces crypto.randomUUID, which browsers do not offer to pages that were
// loaded over plain HTTP from another machine, for example on a phone.
function randomID() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

// ---- The connection -------------------------------------------------------

let socket = null; // the current WebSocket; events of older ones are ignored
let online = false; // whether socket is open and the server has sent its welcome
let welcomed = 0; // the time of the last welcome, in milliseconds
let attempts = 0; // attempts to connect since a connection lasted for 5 seconds
let retry = 0; // the timer of the next attempt, or 0
let silence = 0; // the timer that ends a connection without events

function connect() {
  disconnect();
  status("Connecting…");
  const url = new URL("chat", location);
  url.protocol = url.protocol.replace("http", "ws");
  const ws = new WebSocket(url);
  socket = ws;
  ws.onopen = () => ws.send(JSON.stringify(me));
  ws.onmessage = ({ data }) => ws === socket && receive(JSON.parse(data));
  ws.onclose = ({ code, reason }) => ws === socket && closed(code, reason);
  expectAnswer(() => online);
}

// expectAnswer reconnects if answered is false after 10 seconds, because some network
// failures cause no event. A page that asks nothing notices them later, by silence.
function expectAnswer(answered) {
  const ws = socket;
  setTimeout(() => ws === socket && !answered() && reconnectLater("no answer"), 10_000);
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

const goingAway = 1001;
const policyViolation = 1008;
const tryAgainLater = 1013;

function closed(code, reason) {
  if (code === policyViolation) {
    leave(reason); // a new connection would break the same rule again
    return;
  }
  const cause = { [goingAway]: "server restarting", [tryAgainLater]: reason }[code];
  reconnectLater(cause ?? "connection lost");
}

// reconnectLater connects again after a delay. The delay doubles with each attempt, so
// that a server with problems is not flooded. Up to half of the delay is left out at
// random, so that not all pages connect at the same time.
function reconnectLater(cause) {
  disconnect();
  if (online && Date.now() - welcomed > 5000) attempts = 0;
  const delay = Math.min(30_000, 500 * 2 ** attempts++) * (0.5 + Math.random() / 2);
  retry = setTimeout(connect, delay);
  status(`${sentence(cause)}…`);
  $("now").hidden = false;
}

function status(text, isOnline = false) {
  online = isOnline;
  $("status").textContent = text;
  $("status").classList.toggle("online", online);
}

// ---- Receiving ------------------------------------------------------------

function receive(event) {
  clearTimeout(silence);
  silence = setTimeout(() => reconnectLater("no answer"), silentFor);
  switch (event.type) {
    case "welcome":
      return welcome(event);
    case "joined":
      people.add(event.name);
      showPeople();
      return notice(event.name, " joined");
    case "left":
      people.delete(event.name);
      showPeople();
      return notice(event.name, " left");
    case "said":
      return show(event.message);
  }
}

const people = new Set();

function welcome(event) {
  welcomed = Date.now();
  me.name = event.name;
  sessionStorage.setItem("name", me.name);
  status("Connected", true);
  people.clear();
  event.people.forEach((name) => people.add(name));
  showPeople();
  event.history?.forEach(show);
  for (const [id, text] of unconfirmed) send(id, text);
}

// ---- Sending --------------------------------------------------------------

// The texts by ID that this page has sent and the server has not confirmed. They are
// sent again on a new connection. The server ignores an ID that is in its history.
const unconfirmed = new Map();

function say(text) {
  const id = randomID();
  unconfirmed.set(id, text);
  show({ id, text, name: me.name });
  scrollToEnd();
  if (online) send(id, text);
}

function send(id, text) {
  socket.send(JSON.stringify({ id, text }));
  expectAnswer(() => !unconfirmed.has(id));
}

// ---- The page -------------------------------------------------------------

const shown = new Map(); // the elements of the messages, by message ID

// show adds a message to the page, if the page does not show it yet. A message without
// a time was sent by this page and is not confirmed. When the server confirms it, show
// moves it to its place in the order of all messages.
function show(message) {
  let item = shown.get(message.id);
  if (item && !item.classList.contains("pending")) return;
  if (item) item.remove();
  if (message.time) unconfirmed.delete(message.id);
  item = messageElement(message);
  shown.set(message.id, item);
  append(item);
}

function messageElement({ id, name, text, time }) {
  const mine = name === me.name;
  const before = $("messages").lastElementChild;
  const item = element("li", "message");
  item.dataset.id = id;
  item.dataset.name = name;
  item.classList.toggle("mine", mine);
  item.classList.toggle("pending", !time);
  item.classList.toggle("again", before?.dataset.name === name);
  item.style.setProperty("--hue", hue(name));

  const author = element("bdi", "name", mine ? "You" : name);
  author.classList.toggle("visually-hidden", mine || item.classList.contains("again"));
  const bubble = element("div", "bubble");
  const words = element("span", "words", text);
  words.dir = "auto";
  bubble.append(words, time ? clock(time) : element("time", "", "sending…"));
  item.append(face(name), author, bubble);
  return item;
}

function clock(time) {
  const at = element("time", "", new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  at.dateTime = time;
  return at;
}

function notice(name, change) {
  const item = element("li", "notice");
  item.append(element("bdi", "", name), change);
  append(item);
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

function showPeople() {
  const names = [...people].sort((a, b) => a.localeCompare(b));
  $("people").replaceChildren(...names.map((name) => {
    const item = element("li");
    item.style.setProperty("--hue", hue(name));
    item.append(face(name), element("bdi", "", name), name === me.name ? " (you)" : "");
    return item;
  }));
  $("count").textContent = names.length;
}

// face returns a circle with the initial of a name in its color. It is hidden from
// screen readers, because they read the name.
function face(name) {
  const circle = element("span", "face", [...name][0].toUpperCase());
  circle.ariaHidden = "true";
  return circle;
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
  sessionStorage.removeItem("name");
  unconfirmed.clear();
  shown.clear();
  $("messages").replaceChildren();
  $("room").hidden = true;
  $("login").hidden = false;
  $("refusal").textContent = sentence(reason);
  $("name").value = me.name ?? "";
  $("name").focus();
}

$("join").addEventListener("submit", (event) => {
  event.preventDefault();
  // One form for names that look the same; the server refuses the others.
  me.name = $("name").value.normalize("NFKC").trim();
  if (me.name) enter();
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

if (me.name) enter();
else leave();
