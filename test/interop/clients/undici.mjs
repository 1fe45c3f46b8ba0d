import diagnostics from "node:diagnostics_channel";
import { WebSocket, ping } from "undici";
import { main } from "./cases.mjs";

await main({
  WebSocket,
  ping(socket, payload) {
    const pong = new Promise((resolve) => {
      diagnostics.subscribe("undici:websocket:pong", ({ payload }) => resolve(payload.toString()));
    });
    ping(socket, Buffer.from(payload));
    return pong;
  },
});
