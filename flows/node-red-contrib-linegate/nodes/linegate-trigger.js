"use strict";

const { randomBytes } = require("node:crypto");
const { readVerdict } = require("../lib/documents");
const { join } = require("../lib/joined");
const { SendProblem } = require("../lib/link");
const { Counter, MODULUS } = require("../lib/sequence");
const { wholeField } = require("../lib/settings");
const { encodeTrigger, readMessage } = require("../lib/trigger");

const STORED = "next_sequence";

/** The counter, from the node's context, where it outlives a restart if Node-RED's context store does. */
function loadCounter(node, first) {
  return new Promise((resolve, reject) => {
    node.context().get(STORED, (error, stored) => {
      if (error) reject(error);
      else resolve(new Counter(Number.isInteger(stored) && stored >= 0 ? stored : first));
    });
  });
}

function saveCounter(node) {
  node.context().set(STORED, node.counter.next, (error) => {
    if (error) node.warn(`the sequence can't be stored: ${error.message}`);
  });
}

/** Wait for a trigger's own verdict, which comes on the node's own topic with the trigger's own correlation data. */
class Replies {
  constructor(node, line) {
    this._waiting = new Map();
    this._settings = line.settings;
    this.suffix = `reply/${line.settings.clientId}-${node.id}`; // never the name of an input, which the bridge would refuse
    this.topic = `${line.settings.base}/${this.suffix}`;
    this._stop = node.link.hear(this.suffix, (payload, packet) => this._take(payload, packet));
  }

  get count() {
    return this._waiting.size;
  }

  expect(fields, limitMs) {
    const correlation = randomBytes(16);
    const key = correlation.toString("hex");
    const answer = new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this._end(key, new SendProblem("TIMEOUT", `no verdict within ${limitMs} ms: treat the part as not inspected`));
      }, limitMs);
      this._waiting.set(key, { fields, resolve, reject, timer });
    });
    const cancel = () => {
      clearTimeout(this._waiting.get(key)?.timer);
      this._waiting.delete(key); // its promise stays open: the failure to send is the answer
    };
    return { correlation, answer, cancel };
  }

  close() {
    this._stop();
    for (const key of [...this._waiting.keys()]) this._end(key, new SendProblem("CLOSED", "the node was closed before the verdict"));
  }

  _end(key, problem, verdict) {
    const each = this._waiting.get(key);
    if (!each) return;
    this._waiting.delete(key);
    clearTimeout(each.timer);
    if (problem) each.reject(problem);
    else each.resolve(verdict);
  }

  _take(payload, packet) {
    const data = packet.properties && packet.properties.correlationData;
    const key = data ? data.toString("hex") : "";
    const each = this._waiting.get(key);
    if (!each || packet.retain) return; // of a trigger that was given up
    let verdict;
    try {
      verdict = readVerdict(payload, this._settings);
    } catch (error) {
      if (error.name !== "ValueProblem") throw error;
      this._end(key, new SendProblem("UNREADABLE", `the verdict can't be read: ${error.message}`));
      return;
    }
    this._end(key, doubtOf(verdict, each.fields), verdict);
  }
}

function doubtOf(verdict, fields) {
  if (verdict.sequence !== fields.sequence || verdict.part_id !== (fields.part_id || String(fields.sequence))) {
    return new SendProblem("UNREADABLE", `the verdict is of sequence ${verdict.sequence}, not ${fields.sequence}`);
  }
  return verdict.replayed ? new SendProblem("REPLAYED", "the verdict came as a replayed one: the part has gone by") : null;
}

async function sendTrigger(node, read) {
  const { payload, properties } = encodeTrigger(read);
  if (!node.replies) {
    await node.link.publish("trigger", payload, properties, node.ackMs);
    return null;
  }
  if (!node.link.connected) await node.link.publish("trigger", payload, properties, node.ackMs); // says why it can't
  if (!node.link.hears(node.replies.suffix)) {
    throw new SendProblem("NO_REPLY", `not sent: the broker has not granted ${node.replies.topic}, so no verdict could come`);
  }
  const { correlation, answer, cancel } = node.replies.expect(read.fields, node.verdictMs);
  const sent = node.link.publish("trigger", payload, { ...properties, responseTopic: node.replies.topic, correlationData: correlation }, node.ackMs);
  const failed = new Promise((_, reject) => {
    sent.catch((problem) => {
      cancel();
      reject(problem);
    });
  });
  return Promise.race([answer, failed]);
}

function numbered(node, msg) {
  let read;
  try {
    read = readMessage(msg);
  } catch (error) {
    // the part went by all the same: the bridge shall see the gap
    if ((msg.sequence ?? msg.payload?.sequence ?? null) === null) node.counter.take();
    saveCounter(node);
    throw error;
  }
  if (read.fields.sequence === undefined) read.fields.sequence = node.counter.take();
  else node.counter.follow(read.fields.sequence);
  saveCounter(node);
  if (read.fields.ts === undefined && node.stamped) read.fields.ts = new Date().toISOString();
  return read;
}

async function take(node, msg, send) {
  const before = msg.payload;
  try {
    const read = numbered(node, msg);
    msg.sequence = read.fields.sequence;
    msg.part_id = read.fields.part_id || String(read.fields.sequence);
    const pending = sendTrigger(node, read);
    node.refresh();
    const verdict = await pending;
    node.last = { text: verdict ? `${msg.sequence} ${verdict.verdict}` : `${msg.sequence} sent` };
    if (verdict) Object.assign(msg, { payload: verdict, verdict: verdict.verdict, disposition: verdict.disposition });
    send([msg, null]);
    return undefined;
  } catch (error) {
    if (!["ValueProblem", "SendProblem"].includes(error.name)) throw error;
    node.last = { text: `${msg.sequence === undefined ? "" : `${msg.sequence} `}${error.code}`, fill: "red" };
    send([null, { ...msg, payload: before, error: { code: error.code, message: error.message } }]);
    return error;
  } finally {
    node.refresh();
  }
}

function ownText(node) {
  const waiting = node.replies && node.replies.count ? `waiting for ${node.replies.count}` : "";
  return { text: [waiting, node.last.text].filter(Boolean).join(" · "), fill: node.last.fill };
}

function readFields(node, config) {
  const first = wholeField("first sequence", config.first === undefined ? 1 : config.first, 0, MODULUS - 1);
  node.ackMs = wholeField("acknowledged within", config.ackMs === undefined ? 1000 : config.ackMs, 10, 60000);
  node.verdictMs = wholeField("wait for the verdict", config.verdictMs === undefined ? 6000 : config.verdictMs, 10, 600000);
  node.stamped = config.stamped !== false;
  return first;
}

module.exports = function register(RED) {
  function LinegateTrigger(config) {
    RED.nodes.createNode(this, config);
    this.last = { text: "" };
    let first;
    try {
      first = readFields(this, config);
    } catch (error) {
      if (error.name !== "ValueProblem") throw error;
      this.status({ fill: "red", shape: "ring", text: "the settings are wrong" });
      this.error(error.message);
      return;
    }
    const line = RED.nodes.getNode(config.line);
    if (!join(this, line, "", () => ownText(this))) return;
    if (config.wait === true) {
      this.replies = new Replies(this, line);
      this.on("close", () => this.replies.close());
    }
    const ready = loadCounter(this, first).then((counter) => {
      this.counter = counter;
    });
    ready.catch((error) => this.error(`the sequence can't be read from the context: ${error.message}`));
    this.on("input", (msg, send, done) => {
      ready.then(() => take(this, msg, send)).then(done, done);
    });
  }
  RED.nodes.registerType("linegate-trigger", LinegateTrigger);
};
