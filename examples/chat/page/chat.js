// The browser's side of the chat: a connection that comes back by itself, and the
// room that it shows. What peers send reaches the page as text, never as HTML.

const $ = (id) => document.getElementById(id);

const maxShown = 500; // messages kept on the page

// The name and key live as long as the tab does: a reload finds its way back.
const me = {
  name: sessionStorage.getItem("name"),
  key: sessionStorage.getItem("key") ?? randomID(),
};
sessionStorage.setItem("key", me.key);

// crypto.randomUUID is missing where the page comes over plain HTTP from
// another machine than this, as to a phone.
function randomID() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

// ---- The connection -------------------------------------------------------

let socket = null; // the one that counts; events of any other are ignored
let online = false; // it is open, and the server has let us in
let welcomed = 0; // when it did so last, in milliseconds
let attempts = 0; // to connect, since a connection lasted
let retry = 0; // the timer of the next one, or 0

function connect() {
  abandon();
  status("Connecting…");
  const url = new URL("chat", location);
  url.protocol = url.protocol.replace("http", "ws");
  const ws = new WebSocket(url);
  socket = ws;
  ws.onopen = () => ws.send(JSON.stringify(me));
  ws.onmessage = ({ data }) => ws === socket && receive(JSON.parse(data));
  ws.onclose = ({ code, reason }) => ws === socket && closed(code, reason);
  expect(() => online);
}

// expect gives the connection up if it does not answer. A network that broke
// without a word shows by nothing else.
function expect(answered) {
  const ws = socket;
  setTimeout(() => ws === socket && !answered() && comeBack("no answer"), 10_000);
}

// abandon forgets the connection at once. The close event of a dead network
// would take minutes.
function abandon() {
  clearTimeout(retry);
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
    leave(reason); // coming back would only break the same rule again
    return;
  }
  const why = { [goingAway]: "server restarting", [tryAgainLater]: reason }[code];
  comeBack(why ?? "connection lost");
}

// comeBack waits twice as long each time, so as not to hold a server down, and
// half of it at random, so that not everybody comes back in the same moment.
function comeBack(why) {
  abandon();
  if (online && Date.now() - welcomed > 5000) attempts = 0;
  const delay = Math.min(30_000, 500 * 2 ** attempts++) * (0.5 + Math.random() / 2);
  retry = setTimeout(connect, delay);
  status(`${sentence(why)}…`);
  $("now").hidden = false;
}

function status(text, isOnline = false) {
  online = isOnline;
  $("status").textContent = text;
  $("status").classList.toggle("online", online);
}

// ---- What comes in --------------------------------------------------------

function receive(event) {
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

// ---- What goes out --------------------------------------------------------

// By id, what was said here and did not come back from the server yet. It is sent
// again after a reconnect; the server knows by the id what it has had already.
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
  expect(() => !unconfirmed.has(id));
}

// ---- The page -------------------------------------------------------------

const shown = new Map(); // by message id, the element

// show puts a message on the page, once. Without a time it is one of one's own
// that the server has not confirmed, and moves to its place when it has.
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
  author.classList.toggle("unseen", mine || item.classList.contains("again"));
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

function notice(name, what) {
  const item = element("li", "notice");
  item.append(element("bdi", "", name), what);
  append(item);
}

let atEnd = true; // the reader is where new messages appear

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

// face is the initial of a name in its colour, for those who see.
function face(name) {
  const circle = element("span", "face", [...name][0].toUpperCase());
  circle.ariaHidden = "true";
  return circle;
}

// hue spreads names over the colours by the golden angle.
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

// ---- Coming and going -----------------------------------------------------

function enter() {
  $("door").hidden = true;
  $("room").hidden = false;
  $("text").focus();
  connect();
}

function leave(reason = "") {
  abandon();
  attempts = 0;
  sessionStorage.removeItem("name");
  unconfirmed.clear();
  shown.clear();
  $("messages").replaceChildren();
  $("room").hidden = true;
  $("door").hidden = false;
  $("refusal").textContent = sentence(reason);
  $("name").value = me.name ?? "";
  $("name").focus();
}

$("join").addEventListener("submit", (event) => {
  event.preventDefault();
  me.name = $("name").value.trim();
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

// The keyboard of a phone takes its room from the messages.
new ResizeObserver(() => atEnd && scrollToEnd()).observe($("log"));

// A network that comes back, or a page that is looked at again, need not wait.
addEventListener("online", () => retry && connect());
document.addEventListener("visibilitychange", () => retry && !document.hidden && connect());

if (me.name) enter();
else leave();
