// The client of TestSuspended, which suspends this process after the line "ready".
import WebSocket from "ws";

const socket = new WebSocket(process.argv[2]);
socket.on("message", (data) => console.log(`message: ${data}`));
socket.on("close", (code) => console.log(`closed: ${code}`));
socket.on("error", (error) => console.log(`error: ${error}`));
socket.on("open", () => console.log("ready"));
