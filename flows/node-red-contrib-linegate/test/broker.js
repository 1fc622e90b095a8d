"use strict";

// A real mosquitto on a free port, a client beside it, and what a bridge publishes.

const fs = require("node:fs");
const net = require("node:net");
const os = require("node:os");
const path = require("node:path");
const { spawn } = require("node:child_process");
const { once } = require("node:events");
const mqtt = require("mqtt");

const BASE = "linegate/line1/station1";
const SETTINGS = { root: "linegate", line: "line1", station: "station1", host: "127.0.0.1" };

async function freePort() {
  const server = net.createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

async function answers(port) {
  const socket = net.connect(port, "127.0.0.1");
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Wait until `condition` gives something true; gives it. */
async function eventually(condition, limitMs = 8000) {
  const until = Date.now() + limitMs;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > until) throw new Error(`it did not happen: ${condition}`);
    await pause(10);
  }
}

/** A mosquitto that can be stopped, killed, frozen and started again on its port. */
class Mosquitto {
  async start(extra = "") {
    this.port = this.port || (await freePort());
    this.folder = this.folder || fs.mkdtempSync(path.join(os.tmpdir(), "linegate-"));
    const conf = path.join(this.folder, "mosquitto.conf");
    fs.writeFileSync(conf, `listener ${this.port} 127.0.0.1\nuser root\nmax_queued_messages 20000\n${extra || "allow_anonymous true\n"}`);
    const environment = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/usr/local/sbin` };
    this.process = spawn("mosquitto", ["-c", conf], { stdio: "ignore", env: environment });
    await eventually(() => answers(this.port));
  }

  async kill() {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      this.process.kill("SIGKILL");
      await once(this.process, "exit");
    }
  }

  async end() {
    await this.kill();
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A client that plays the bridge: it hears triggers, answers them if told to, and publishes what a bridge would. */
class Twin {
  async start(port, answer) {
    this.triggers = [];
    this.client = mqtt.connect({ host: "127.0.0.1", port, protocolVersion: 5, reconnectPeriod: 100 });
    this.client.on("error", () => {});
    this.client.on("message", (topic, payload, packet) => {
      this.triggers.push({ payload, properties: packet.properties || {} });
      if (answer) answer(this, payload, packet.properties || {});
    });
    await once(this.client, "connect");
    await this.client.subscribeAsync(`${BASE}/trigger`, { qos: 1 });
  }

  async say(suffix, document, options = {}) {
    const payload = typeof document === "string" || Buffer.isBuffer(document) ? document : JSON.stringify(document);
    await this.client.publishAsync(`${BASE}/${suffix}`, payload, { qos: 1, ...options });
  }

  status(changes = {}) {
    return this.say("status", { online: true, stop_request: false, degraded: false, dry_run: false, ...changes }, { retain: true });
  }

  end() {
    return this.client.endAsync(true);
  }
}

/** A verdict as the bridge writes it. */
function verdictOf(sequence, changes = {}) {
  return {
    line: "line1", station: "station1", part_id: String(sequence), sequence, epoch: 1, verdict: "PASS", code: 1,
    disposition: "LET_PASS", reason: "no label", label: null, score: null, regions: [], recipe: "ball-screw@1", model: "m@1.0.0",
    triggered_utc: "2026-11-21T08:00:00.000000Z", captured_utc: null, decided_utc: `2026-11-21T08:00:00.${String(sequence % 1e6).padStart(6, "0")}Z`,
    timing_ms: {}, encoder: null, gate: null, picture: null, replayed: false, ...changes,
  };
}

const FAIL = { verdict: "FAIL", code: 2, disposition: "REJECT" };

module.exports = { BASE, FAIL, Mosquitto, SETTINGS, Twin, eventually, pause, verdictOf };
