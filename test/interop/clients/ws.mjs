import WebSocket from "ws";
import { main } from "./cases.mjs";

// The settings of the cases with compression. The threshold is 1024 bytes by default.
const settings = {
  "deflate-alone": { threshold: 0, serverNoContextTakeover: true, clientNoContextTakeover: true },
  "deflate-window": { threshold: 0, serverMaxWindowBits: 9, clientMaxWindowBits: 9 },
};

class Configured extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { perMessageDeflate: settings[url.split("/").pop()] ?? true });
  }
}

await main({
  WebSocket: Configured,
  sendFragments(socket, parts) {
    parts.forEach((part, i) => socket.send(part, { fin: i === parts.length - 1 }));
  },
  ping(socket, payload) {
    const pong = new Promise((resolve) => socket.once("pong", (data) => resolve(data.toString())));
    socket.ping(payload);
    return pong;
  },
});
