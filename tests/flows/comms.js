// Writes what the editor's websocket tells, one JSON object {topic, data} a line: statuses, debug messages, errors.
// Usage: node comms.js WS_MODULE URL
"use strict";

const [module_, url] = process.argv.slice(2);
const WebSocket = require(module_);

const socket = new WebSocket(url);
socket.on("open", () => {
    for (const topic of ["status/#", "notification/#", "debug"]) {
        socket.send(JSON.stringify({ subscribe: topic }));
    }
    console.log(JSON.stringify({ topic: "open", data: null }));
});
socket.on("message", (text) => {
    const told = JSON.parse(text);
    for (const one of Array.isArray(told) ? told : [told]) {
        if (one.topic !== "hb") {
            console.log(JSON.stringify(one));
        }
    }
});
socket.on("error", (error) => {
    console.error(String(error));
    process.exitCode = 1;
});
