// Runs the code of one function node on messages, outside Node-RED, with the names that Node-RED gives it.
// Usage: node run_function.js NODE_RED_UTIL < {"node": {...}, "calls": [{"msg": ..., "now_ms": ...}], "env": {}, "flow": {}, "global": {}, "context": {}}
// Writes {"calls": [{outputs, status, warn, error, log, done}], "flow": {}, "global": {}, "context": {}}.
"use strict";

const fs = require("fs");
const util = require("util");
const vm = require("vm");

const RED = { util: require(process.argv[2]).util };

const task = JSON.parse(fs.readFileSync(0, "utf8"), (_key, value) =>
    value && value.type === "Buffer" && Array.isArray(value.data) ? Buffer.from(value.data) : value,
);
const PORTS = Math.max(Number(task.node.outputs ?? 1), 1);
let told = nothing();
let now_ms = null;

function nothing() {
    return { outputs: Array.from({ length: PORTS }, () => []), status: [], warn: [], error: [], log: [], done: 0 };
}

function send(messages) {
    if (messages === null || messages === undefined) {
        return;
    }
    const ports = Array.isArray(messages) ? messages : [messages];
    ports.forEach((port, number) => {
        for (const message of Array.isArray(port) ? port : [port]) {
            if (message === null || message === undefined) {
                continue;
            }
            if (typeof message !== "object") {
                told.error.push(`Function tried to send a message of type ${typeof message}`);
            } else if (number >= PORTS) {
                told.error.push(`Function sent to output ${number + 1} of ${PORTS}`);
            } else {
                told.outputs[number].push(RED.util.cloneMessage(message));
            }
        }
    });
}

function store(values) {
    const step = (place, key) => (place === null || place === undefined ? undefined : place[key]);
    return {
        get: (key) => key.split(".").reduce(step, values),
        set: (key, value) => {
            const keys = key.split(".");
            const last = keys.pop();
            const place = keys.reduce((at, one) => (at[one] ??= {}), values);
            if (value === undefined) {
                delete place[last];
            } else {
                place[last] = value;
            }
        },
        keys: () => Object.keys(values),
    };
}

class Clock extends Date {
    constructor(...given) {
        super(...(given.length || now_ms === null ? given : [now_ms]));
    }
    static now() {
        return now_ms === null ? Date.now() : now_ms;
    }
}

const text = (thing) => (thing instanceof Error || thing?.stack ? String(thing) : thing);
const note = (list) => (thing) => told[list].push(text(thing));
const node = {
    id: task.node.id, name: task.node.name, outputCount: PORTS,
    log: note("log"), debug: note("log"), trace: note("log"), warn: note("warn"), error: note("error"),
    status: (status) => told.status.push(typeof status === "object" ? status : { text: String(status) }),
    send, done: () => { told.done += 1; }, on: () => {},
};
const flow = store(task.flow);
const global_ = store(task.global);
const context = Object.assign(store(task.context), { flow, global: global_ });
const sandbox = {
    node, flow, context, global: global_, console, util, Buffer, URL, URLSearchParams, Date: Clock,
    setTimeout, clearTimeout, setInterval, clearInterval,
    env: { get: (name) => task.env[name] },
    RED,
};
vm.createContext(sandbox);

function compiled(code) {
    return vm.runInContext(`(async function (msg) {\n${code}\n})`, sandbox, { filename: task.node.name, lineOffset: -1 });
}

async function main() {
    const calls = [];
    if (task.node.initialize?.trim()) {
        await compiled(task.node.initialize)(undefined);
    }
    const code = compiled(task.node.func);
    for (const call of task.calls) {
        told = nothing();
        now_ms = call.now_ms;
        try {
            send(await code(call.msg));
        } catch (error) {
            told.error.push(String(error));
        }
        await new Promise((resolve) => setTimeout(resolve, task.settle_ms));
        calls.push(told);
    }
    const text = JSON.stringify({ calls, flow: task.flow, global: task.global, context: task.context });
    process.stdout.write(text, () => process.exit(0)); // not earlier: a pipe takes 64 kB at once. Timers may be left
}

main().catch((error) => {
    console.error(error);
    process.exit(1);
});
