import WebSocket from "ws";
import { main } from "./cases.mjs";

await main({
  WebSocket,
  sendFragments(socket, parts) {
    parts.forEach((part, i) => socket.send(part, { fin: i === parts.length - 1 }));
  },
  ping(socket, payload) {
    const pong = new Promise((resolve) => socket.once("pong", (data) => resolve(data.toString())));
    socket.ping(payload);
    return pong;
  },
});
