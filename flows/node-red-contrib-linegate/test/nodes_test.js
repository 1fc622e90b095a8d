"use strict";

// The nodes in Node-RED's own runtime, at a real mosquitto, with a client that plays the bridge.

const assert = require("node:assert/strict");
const { after, afterEach, before, beforeEach, test } = require("node:test");
const helper = require("node-red-node-test-helper");
const { BASE, FAIL, Mosquitto, SETTINGS, Twin, eventually, pause, verdictOf } = require("./broker");

const NODES = ["line", "trigger", "verdict", "gate"].map((name) => require(`../nodes/linegate-${name}`));
const JPEG = Buffer.from("ffd8ffe000104a464946", "hex");
const broker = new Mosquitto();
let twin;

helper.init(require.resolve("node-red"));

before(() => broker.start());
after(() => broker.end());
beforeEach(async () => {
  await helper.startServer();
  twin = new Twin();
});
afterEach(async () => {
  await helper.unload();
  await helper.stopServer();
  if (twin.client) {
    if (twin.client.connected) await twin.say("status", Buffer.alloc(0), { retain: true });
    await twin.end();
  }
});

const line = (changes = {}) => ({ id: "line", type: "linegate-line", port: String(broker.port), ...SETTINGS, ...changes });
const ends = (count) => Array.from({ length: count }, (_, place) => ({ id: `out${place}`, type: "helper" }));
const lampOf = (id) => helper.getNode(id).status.lastCall?.args[0] ?? {};

/** Load one node with an end at each output; gives it and the lists of what came out. */
async function load(type, config, outputs, { lineChanges, credentials, ready = "green" } = {}) {
  const node = { id: "node", type, line: "line", wires: ends(outputs).map(({ id }) => [id]), ...config };
  await helper.load(NODES, [line(lineChanges), node, ...ends(outputs)], credentials || {});
  const came = ends(outputs).map(({ id }) => {
    const list = [];
    helper.getNode(id).on("input", (msg) => list.push(msg));
    return list;
  });
  if (ready) await eventually(() => lampOf("node").fill === ready);
  return { node: helper.getNode("node"), came };
}

const errorsOf = (node) => node.error.getCalls().map((call) => String(call.args[0].message || call.args[0]));

async function verdicts(config, documents, settled) {
  await twin.start(broker.port);
  await twin.status();
  const loaded = await load("linegate-verdict", config, config.mode === "one" ? 1 : 3);
  for (const document of documents) await twin.say("verdict", document);
  await eventually(() => settled(loaded.came));
  return loaded;
}

test("verdicts are sorted: pass, reject, all", async () => {
  const documents = [
    verdictOf(1), verdictOf(2, FAIL), verdictOf(3, { verdict: "LATE", code: 5, disposition: "REJECT" }),
    verdictOf(4, { verdict: "ERROR", code: 4 }), verdictOf(5, { disposition: "NONE" }), verdictOf(9),
  ];
  const { came: [pass, reject, all] } = await verdicts({}, documents, (came) => came[2].length === 6);
  assert.deepEqual(pass.map((msg) => msg.sequence), [1, 9]);
  assert.deepEqual(reject.map((msg) => msg.sequence), [2, 3]);
  assert.deepEqual(all.map((msg) => [msg.sequence, msg.missed]), [[1, 0], [2, 0], [3, 0], [4, 0], [5, 0], [9, 3]]);
  const { payload, verdict, disposition, part_id, replayed, topic } = reject[0];
  assert.deepEqual({ verdict, disposition, part_id, replayed, topic }, { verdict: "FAIL", disposition: "REJECT", part_id: "2", replayed: false, topic: `${BASE}/verdict` });
  assert.deepEqual(payload, documents[1]);
  await eventually(() => lampOf("node").text === "9 PASS · 3 missed");
});

test("a replayed verdict is no pass and no reject, but among all", async () => {
  const documents = [verdictOf(1, { replayed: true }), verdictOf(2, { ...FAIL, replayed: true }), verdictOf(3)];
  const { came: [pass, reject, all] } = await verdicts({}, documents, (came) => came[2].length === 3);
  assert.deepEqual([pass.length, reject.length, all.map((msg) => msg.replayed)], [1, 0, [true, true, false]]);
});

test("replayed verdicts where they are wanted, or nowhere", async () => {
  const documents = [verdictOf(1, { replayed: true }), verdictOf(2, { ...FAIL, replayed: true }), verdictOf(3)];
  const sorted = await verdicts({ replayed: "sorted" }, documents, (came) => came[2].length === 3);
  assert.deepEqual(sorted.came.map((list) => list.length), [2, 1, 3]);
  await helper.unload();
  await twin.end();
  const none = await verdicts({ replayed: "none" }, documents, (came) => came[2].length === 1);
  assert.deepEqual(none.came.map((list) => list.map((msg) => msg.sequence)), [[3], [], [3]]);
});

test("one output gives what its filter says", async () => {
  const documents = [verdictOf(1), verdictOf(2, FAIL), verdictOf(3, { ...FAIL, replayed: true }), verdictOf(4, FAIL)];
  const { came: [only] } = await verdicts({ mode: "one", filter: "reject" }, documents, (came) => came[0].length === 2);
  assert.deepEqual(only.map((msg) => msg.sequence), [2, 4]);
});

test("what can't be read comes out nowhere and is an error; the next verdict comes", async () => {
  const bad = ["not json", Buffer.alloc(0), Buffer.from([0xff]), verdictOf(1, { code: 2 }), verdictOf(1, { station: "station2" }), "null"];
  const { node, came } = await verdicts({}, [...bad, verdictOf(7)], (each) => each[2].length === 1);
  assert.deepEqual(came.map((list) => list.map((msg) => msg.sequence)), [[7], [], [7]]);
  assert.equal(errorsOf(node).length, bad.length);
  assert.match(errorsOf(node)[3], /code is 2: allowed are 1/);
  await eventually(() => lampOf("node").fill === "yellow" && lampOf("node").text === "7 PASS · 6 unreadable");
});

test("a retained verdict is of some earlier part and does not come; a repeated one comes once", async () => {
  await twin.start(broker.port);
  await twin.status();
  await twin.say("verdict", verdictOf(1), { retain: true });
  const { came } = await load("linegate-verdict", {}, 3);
  await twin.say("verdict", verdictOf(2));
  await twin.say("verdict", verdictOf(2));
  await twin.say("verdict", verdictOf(3));
  await eventually(() => came[2].length === 2);
  await twin.say("verdict", "", { retain: true });
  assert.deepEqual(came[0].map((msg) => msg.sequence), [2, 3]);
});

test("the lamp follows the bridge: not heard, online, stop request, offline", async () => {
  await twin.start(broker.port);
  await load("linegate-verdict", {}, 3, { ready: "yellow" });
  assert.equal(lampOf("node").text, "the bridge was not heard yet");
  await twin.status();
  await eventually(() => lampOf("node").fill === "green");
  await twin.status({ stop_request: true });
  await eventually(() => lampOf("node").fill === "red" && lampOf("node").text === "STOP REQUEST");
  await twin.status({ online: false, stop_request: null });
  await eventually(() => lampOf("node").fill === "yellow" && lampOf("node").text === "the bridge is offline");
});

test("a bridge that says nothing for 5 s is silent", async () => {
  await twin.start(broker.port);
  await twin.status();
  await load("linegate-verdict", {}, 3);
  await eventually(() => lampOf("node").text === "the bridge is silent" && lampOf("node").fill === "yellow");
});

test("triggers count by themselves and carry their fields", async () => {
  await twin.start(broker.port);
  await twin.status();
  const { node, came } = await load("linegate-trigger", { first: "4294967295" }, 2);
  for (const msg of [{ payload: JPEG, encoder: 5 }, { payload: { path: "a.jpg" } }, { payload: {}, sequence: 77, part_id: "A-77" }, { payload: {} }]) node.receive(msg);
  await eventually(() => came[0].length === 4);
  assert.deepEqual(came[0].map((msg) => [msg.sequence, msg.part_id]), [[4294967295, "4294967295"], [0, "0"], [77, "A-77"], [78, "78"]]);
  const [raw, path, camera] = twin.triggers;
  assert.deepEqual([raw.payload.equals(JPEG), raw.properties.contentType, raw.properties.userProperties.sequence, raw.properties.userProperties.encoder],
    [true, "image/jpeg", "4294967295", "5"]);
  assert.match(raw.properties.userProperties.ts, /^20\d\d-.*Z$/);
  assert.deepEqual(JSON.parse(path.payload).image, { path: "a.jpg" });
  const { ts, ...fields } = JSON.parse(camera.payload);
  assert.deepEqual([fields, typeof ts], [{ sequence: 77, part_id: "A-77" }, "string"]);
  assert.equal(raw.properties.responseTopic, undefined);
  assert.equal(errorsOf(node).length, 0);
});

test("bad input is an error by name on the second output; its number is used up", async () => {
  await twin.start(broker.port);
  await twin.status();
  const { node, came: [sent, failed] } = await load("linegate-trigger", {}, 2);
  node.receive({ payload: "a.jpg" });
  node.receive({ payload: {} });
  await eventually(() => sent.length === 1 && failed.length === 1);
  assert.equal(sent[0].sequence, 2);
  assert.deepEqual([failed[0].error.code, failed[0].payload], ["BAD_INPUT", "a.jpg"]);
  assert.match(failed[0].error.message, /^msg\.payload is "a\.jpg": allowed are a Buffer/);
  assert.deepEqual(errorsOf(node), [failed[0].error.message]);
});

test("with waiting, each trigger gets its own verdict", async () => {
  await twin.start(broker.port, (self, payload, { responseTopic, correlationData }) => {
    const { sequence } = JSON.parse(payload);
    const answer = JSON.stringify(verdictOf(sequence, sequence % 2 ? FAIL : {}));
    const late = setTimeout(() => self.client.publish(responseTopic, answer, { qos: 1, properties: { correlationData } }), (5 - sequence) * 20);
    late.unref();
  });
  await twin.status();
  const { node, came: [judged, failed] } = await load("linegate-trigger", { wait: true }, 2);
  for (const colour of ["red", "green", "blue", "white"]) node.receive({ payload: {}, colour });
  await eventually(() => judged.length === 4);
  assert.deepEqual(judged.map((msg) => [msg.sequence, msg.colour, msg.verdict, msg.disposition]).sort(),
    [[1, "red", "FAIL", "REJECT"], [2, "green", "PASS", "LET_PASS"], [3, "blue", "FAIL", "REJECT"], [4, "white", "PASS", "LET_PASS"]]);
  assert.deepEqual([judged[0].payload.part_id, failed.length], [String(judged[0].sequence), 0]);
});

const DOUBTFUL = [
  ["another part's", (sequence) => verdictOf(sequence + 1), "UNREADABLE"],
  ["a contradiction", (sequence) => verdictOf(sequence, { code: 4 }), "UNREADABLE"],
  ["a replayed one", (sequence) => verdictOf(sequence, { replayed: true }), "REPLAYED"],
  ["none", () => null, "TIMEOUT"],
];
for (const [what, make, code] of DOUBTFUL) {
  test(`with waiting, ${what} is an error, never a pass`, async () => {
    await twin.start(broker.port, (self, payload, { responseTopic, correlationData }) => {
      const answer = make(JSON.parse(payload).sequence);
      if (answer) self.client.publish(responseTopic, JSON.stringify(answer), { qos: 1, properties: { correlationData } });
    });
    await twin.status();
    const { node, came: [judged, failed] } = await load("linegate-trigger", { wait: true, verdictMs: "300" }, 2);
    node.receive({ payload: {} });
    await eventually(() => failed.length === 1);
    assert.deepEqual([failed[0].error.code, failed[0].sequence, judged.length, failed[0].verdict], [code, 1, 0, undefined]);
    await pause(50);
    assert.equal(judged.length + failed.length, 1);
  });
}

test("a trigger that nobody hears is an error", async () => {
  await load("linegate-trigger", {}, 2, { lineChanges: { line: "line9" }, ready: "yellow" });
  const failed = [];
  helper.getNode("out1").on("input", (msg) => failed.push(msg));
  helper.getNode("node").receive({ payload: {} });
  await eventually(() => failed.length === 1);
  assert.equal(failed[0].error.code, "NOBODY");
});

test("gate reports and alarms come as fields; only the wanted events", async () => {
  await twin.start(broker.port);
  await twin.status();
  const { came: [reports, alarms] } = await load("linegate-gate", { ordered: false }, 2);
  for (const event of ["ordered", "fired", "missed"]) await twin.say("gate", { event, sequence: 5, part_id: "5", error_ms: 0.4, reason: event === "missed" ? "late" : null });
  await twin.say("alarm", { code: 1, name: "ORDER_MISSED", state: "raised", severity: "critical", text: "t", ts: "x" });
  await eventually(() => alarms.length === 1);
  assert.deepEqual(reports.map((msg) => [msg.event, msg.sequence, msg.part_id, msg.error_ms, msg.reason]), [["fired", 5, "5", 0.4, null], ["missed", 5, "5", 0.4, "late"]]);
  assert.deepEqual([alarms[0].code, alarms[0].name, alarms[0].state, alarms[0].severity], [1, "ORDER_MISSED", "raised", "critical"]);
  await eventually(() => lampOf("node").fill === "red" && lampOf("node").text === "5 missed · 1 missed · ORDER_MISSED");
  await twin.say("gate", { event: "fired", sequence: 6, part_id: "6", error_ms: 0, reason: null });
  await twin.say("alarm", { code: 1, name: "ORDER_MISSED", state: "cleared", severity: "critical", text: "t", ts: "x" });
  await eventually(() => lampOf("node").fill === "green");
});

test("the gate's lamp follows the alarms that stand, as the bridge says", async () => {
  await twin.start(broker.port);
  await twin.status({ error_code: 44 });
  await load("linegate-gate", {}, 2, { ready: "yellow" });
  await eventually(() => lampOf("node").text === "alarm 44");
  await twin.say("alarm", { code: 5, name: "CAMERA_LOST", state: "raised", severity: "error", text: "t", ts: "x" });
  await eventually(() => lampOf("node").fill === "red" && lampOf("node").text === "CAMERA_LOST");
  await twin.status({ error_code: 0 });
  await eventually(() => lampOf("node").fill === "green" && lampOf("node").text === "");
  await twin.say("alarm", { code: 1, name: "ORDER_MISSED", state: "raised", severity: "critical", text: "t", ts: "x" });
  await eventually(() => lampOf("node").fill === "red" && lampOf("node").text === "ORDER_MISSED");
  await twin.status({ error_code: 1 });
  await pause(300);
  assert.equal(lampOf("node").text, "ORDER_MISSED");
});

test("wrong settings are told of by name, and nothing connects", async () => {
  await load("linegate-verdict", {}, 3, { lineChanges: { port: "${MQTT_PORT}" }, ready: "red" });
  assert.equal(lampOf("node").text, "the line's settings are wrong");
  assert.match(errorsOf(helper.getNode("line"))[0], /^port is "\$\{MQTT_PORT\}": allowed is what an environment variable gives/);
  await helper.unload();
  await load("linegate-verdict", { line: "" }, 3, { ready: "red" });
  assert.equal(lampOf("node").text, "no line is chosen");
});

test("settings come from the environment", async () => {
  process.env.TEST_LINEGATE_PORT = String(broker.port);
  await twin.start(broker.port);
  await twin.status();
  await load("linegate-verdict", {}, 3, { lineChanges: { port: "${TEST_LINEGATE_PORT}" } });
  assert.equal(helper.getNode("line").settings.port, broker.port);
});
