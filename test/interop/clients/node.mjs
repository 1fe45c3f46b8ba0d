// The WebSocket of Node itself, without a package.
import { main } from "./cases.mjs";

await main({ WebSocket });
