// Runs Vite's development server with a proxy in front of a backend. The arguments are the
// address to listen on, the address of the backend and an empty folder.
import { createServer } from "vite";

const [address, backend, root] = process.argv.slice(2);
const [host, port] = address.split(":");
const target = `http://${backend}`;

const server = await createServer({
  configFile: false,
  root,
  logLevel: "error",
  server: {
    host,
    port: Number(port),
    strictPort: true,
    // The first path that matches a request counts.
    proxy: {
      "/without-ws/": { target },
      "/change-origin/": { target, ws: true, changeOrigin: true },
      "/rewrite-origin/": { target, ws: true, changeOrigin: true, rewriteWsOrigin: true },
      "^/(?!without-ws/)": { target, ws: true },
    },
  },
});
await server.listen();
