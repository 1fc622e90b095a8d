"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { test } = require("node:test");
const { isPass, isReject, readAlarm, readReport, readVerdict } = require("../lib/documents");
const { lineLamp } = require("../lib/lamp");
const { waitBefore } = require("../lib/link");
const { Counter, Gaps, Seen } = require("../lib/sequence");
const { readSettings } = require("../lib/settings");
const { encodeTrigger, readMessage } = require("../lib/trigger");
const { copyFlows } = require("../scripts/copy-flows");
const { FAIL, SETTINGS, verdictOf } = require("./broker");

const STATION = { line: "line1", station: "station1" };
const JPEG = Buffer.from("ffd8ffe000104a464946", "hex");
const PNG = Buffer.from("89504e470d0a1a0a0000000d", "hex");
const bytes = (document) => Buffer.from(JSON.stringify(document));
const says = (...words) => (error) => error.name === "ValueProblem" && words.every((word) => error.message.includes(word));

test("a sequence rolls over at 2^32", () => {
  const counter = new Counter(2 ** 32 - 1);
  assert.deepEqual([counter.take(), counter.take(), counter.take()], [4294967295, 0, 1]);
  counter.follow(4294967295);
  assert.equal(counter.take(), 0);
});

test("gaps are counted as the bridge counts missed triggers", () => {
  const gaps = new Gaps();
  const missed = [7, 8, 11, 4294967000].map((sequence) => gaps.take(1, sequence));
  assert.deepEqual(missed, [0, 0, 2, 0], "the first opens the count; far behind is none");
  assert.equal(gaps.take(1, 10), 0);
  assert.equal(gaps.missed, 1, "10 was out of order, not missed");
  assert.equal(gaps.take(2, 500), 0, "a new epoch opens the count anew");
  assert.equal(gaps.take(1, 12), 0, "a record of an earlier run");
  assert.equal(gaps.take(2, 502), 1);
});

test("rollover is no gap", () => {
  const gaps = new Gaps();
  for (const sequence of [4294967294, 4294967295, 0, 1]) assert.equal(gaps.take(1, sequence), 0);
  assert.equal(gaps.missed, 0);
});

test("what came twice is known, within limits", () => {
  const seen = new Seen(2);
  assert.deepEqual(["a", "a", "b", "c", "b", "a"].map((key) => seen.isNew(key)), [true, false, true, true, false, true]);
});

test("a verdict is read and sorted", () => {
  const pass = readVerdict(bytes(verdictOf(1)), STATION);
  assert.deepEqual([isPass(pass), isReject(pass)], [true, false]);
  const fail = readVerdict(bytes(verdictOf(1, FAIL)), STATION);
  assert.deepEqual([isPass(fail), isReject(fail)], [false, true]);
});

test("no failure is a pass, whatever its disposition", () => {
  for (const [verdict, code] of [["FAIL", 2], ["UNCERTAIN", 3], ["ERROR", 4], ["LATE", 5]]) {
    for (const disposition of ["LET_PASS", "NONE", "REJECT"]) {
      const read = readVerdict(bytes(verdictOf(1, { verdict, code, disposition })), STATION);
      assert.deepEqual([isPass(read), isReject(read)], [false, disposition === "REJECT"]);
    }
  }
  assert.equal(isPass(readVerdict(bytes(verdictOf(1, { disposition: "NONE" })), STATION)), false, "a dry run");
  assert.equal(isPass(readVerdict(bytes(verdictOf(1, { disposition: "REJECT" })), STATION)), false);
});

test("a verdict that contradicts itself, or is another's, is none", () => {
  const wrong = [
    { code: 2 }, { verdict: "FAIL" }, { verdict: "pass" }, { verdict: "NONE", code: 0 }, { code: "1" }, { code: undefined },
    { disposition: "PASS" }, { disposition: undefined }, { sequence: -1 }, { sequence: 2 ** 32 }, { sequence: 1.5 }, { sequence: "1" },
    { sequence: null }, { part_id: "" }, { part_id: 7 }, { part_id: "x".repeat(257) }, { station: "station2" }, { line: undefined },
    { replayed: "false" }, { replayed: undefined }, { epoch: null },
  ];
  for (const changes of wrong) {
    assert.throws(() => readVerdict(bytes(verdictOf(1, changes)), STATION), says(Object.keys(changes)[0] === "verdict" ? "" : Object.keys(changes)[0], "allowed"), JSON.stringify(changes));
  }
  const bare = [Buffer.alloc(0), Buffer.from("PASS"), Buffer.from("null"), Buffer.from("[]"), Buffer.from("1"), Buffer.from([0xff, 0xfe]),
    bytes(verdictOf(1)).subarray(0, 100), Buffer.alloc(4_000_001, 32), Buffer.from("[".repeat(100_000))];
  for (const payload of bare) assert.throws(() => readVerdict(payload, STATION), says("the message"));
});

test("reports and alarms are read strictly", () => {
  const report = { event: "missed", sequence: 3, part_id: "3", reason: "too late" };
  assert.equal(readReport(bytes(report)).event, "missed");
  assert.throws(() => readReport(bytes({ ...report, event: "fire" })), says("event", "\"fire\"", "ordered, fired, missed, confirmed"));
  const alarm = { code: 1, name: "ORDER_MISSED", state: "raised", severity: "critical" };
  assert.equal(readAlarm(bytes(alarm)).name, "ORDER_MISSED");
  assert.throws(() => readAlarm(bytes({ ...alarm, state: "on" })), says("state", "raised, cleared"));
});

test("a picture becomes a raw trigger, its fields decimal user properties", () => {
  const read = readMessage({ payload: JPEG, sequence: 4294967295, part_id: "A-1", encoder: 12, length_mm: 100.25, recipe: "r", ts: new Date(0) });
  const { payload, properties } = encodeTrigger(read);
  assert.equal(payload.equals(JPEG), true);
  assert.equal(properties.contentType, "image/jpeg");
  assert.deepEqual(properties.userProperties, {
    sequence: "4294967295", part_id: "A-1", ts: "1970-01-01T00:00:00.000Z", encoder: "12", length_mm: "100.25", recipe: "r",
  });
  assert.equal(encodeTrigger(readMessage({ payload: new Uint8Array(PNG), sequence: 1 })).properties.contentType, "image/png");
});

test("an object becomes JSON; the camera's turn has no image", () => {
  const json = (payload, more = {}) => JSON.parse(encodeTrigger(readMessage({ payload, ...more })).payload);
  assert.deepEqual(json({ path: "a.jpg", sequence: 4, unknown: 1 }), { sequence: 4, image: { path: "a.jpg" } });
  assert.deepEqual(json({}, { sequence: 0 }), { sequence: 0 });
  assert.deepEqual(json({ image: PNG }, { sequence: 5 }), { sequence: 5, image: { media_type: "image/png", data: PNG.toString("base64") } });
  assert.deepEqual(json({ image: { path: "b/c.png" }, length_mm: 0.5 }), { length_mm: 0.5, image: { path: "b/c.png" } });
});

test("bad input names key, value and what is allowed", () => {
  const cases = [
    [{ payload: "x.jpg" }, "msg.payload", "\"x.jpg\"", "Buffer"], [{ payload: true }, "msg.payload", "true"], [{}, "msg.payload", "missing"],
    [{ payload: [1] }, "msg.payload", "a list"], [{ payload: 1700000000000 }, "msg.payload", "1700000000000"], [{ payload: null }, "msg.payload", "null"],
    [{ payload: Buffer.alloc(0) }, "msg.payload", "a Buffer of 0 bytes", "JPEG and PNG"], [{ payload: Buffer.from("GIF89a") }, "JPEG and PNG"],
    [{ payload: {}, sequence: 2 ** 32 }, "msg.sequence", "4294967296", "0 to 4294967295"], [{ payload: { sequence: "7" } }, "msg.payload.sequence", "\"7\""],
    [{ payload: {}, sequence: NaN }, "NaN"], [{ payload: {}, part_id: "" }, "msg.part_id", "1 to 128"], [{ payload: {}, part_id: "a\nb" }, "msg.part_id"],
    [{ payload: {}, part_id: "x".repeat(10000) }, "..."], [{ payload: {}, length_mm: 0 }, "msg.length_mm", "above 0"], [{ payload: {}, length_mm: Infinity }, "Infinity"],
    [{ payload: {}, ts: "yesterday" }, "msg.ts", "RFC 3339"], [{ payload: {}, ts: new Date(NaN) }, "msg.ts"], [{ payload: {}, encoder: 1.5 }, "msg.encoder"],
    [{ payload: { path: "a", image: PNG } }, "not both"], [{ payload: { image: "base64" } }, "msg.payload.image"], [{ payload: { path: 5 } }, "msg.payload.path"],
    [{ payload: { sequence: 1 }, sequence: 2 }, "msg.sequence", "msg.payload"],
  ];
  for (const [msg, ...words] of cases) {
    assert.throws(() => readMessage(msg), (error) => says(...words, "allowed")(error) && error.message.length < 300, words.join());
  }
});

test("settings are checked by name", () => {
  const good = { ...SETTINGS, port: "1883" };
  assert.deepEqual(readSettings(good, "me"), { host: "127.0.0.1", port: 1883, line: "line1", station: "station1", clientId: "me", base: "linegate/line1/station1" });
  const cases = [
    [{ host: "" }, "broker"], [{ host: "tcp://a" }, "broker"], [{ host: "${MQTT_HOST}" }, "broker", "not set"], [{ port: "0" }, "port", "1 to 65535"],
    [{ port: "1883x" }, "port"], [{ port: "${MQTT_PORT}" }, "port", "not set"], [{ line: "1line" }, "line"], [{ station: "a b" }, "station"], [{ line: "+" }, "line"],
    [{ root: "a/#" }, "root"], [{ root: "/a" }, "root"], [{ clientid: "linegate-line1-station1" }, "client id", "the bridge's own"], [{ clientid: "a/b" }, "client id"],
  ];
  for (const [changes, ...words] of cases) assert.throws(() => readSettings({ ...good, ...changes }, "me"), says(...words, "allowed"));
});

test("tries to connect become rarer, up to 5 s", () => {
  assert.deepEqual([0, 1, 2, 3, 4, 5, 50].map((tries) => waitBefore(tries, () => 1)), [250, 500, 1000, 2000, 4000, 5000, 5000]);
  assert.equal(waitBefore(0, () => 0), 125);
});

test("the lamp is green only if all is well", () => {
  const link = { connected: true, isRefused: () => false, settings: { host: "h", port: 1 } };
  const station = { heard: true, online: true, silent: false, status: {} };
  const fill = (changes, more = {}) => lineLamp({ ...link, ...more }, { ...station, ...changes }, "verdict").fill;
  assert.equal(fill({}), "green");
  assert.equal(fill({}, { connected: false }), "red");
  assert.equal(fill({}, { isRefused: () => true }), "red");
  assert.equal(fill({ heard: false }), "yellow");
  assert.equal(fill({ online: false }), "yellow");
  assert.equal(fill({ status: { stop_request: true, degraded: true } }), "red");
  assert.equal(fill({ status: { degraded: true } }), "yellow");
  assert.equal(fill({ status: { dry_run: true } }), "yellow");
});

test("flows are copied, other JSON is not, and old copies go", () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "linegate-"));
  const write = (name, document) => fs.writeFileSync(path.join(folder, name), JSON.stringify(document));
  write("package.json", { name: "x" });
  write("flows_cred.json", { a: { user: "${U}" } });
  write("empty.json", []);
  write("a-flow.json", [{ id: "1", type: "tab" }]);
  const to = path.join(folder, "examples", "shipped");
  assert.deepEqual(copyFlows(folder, to), ["a-flow.json"]);
  fs.renameSync(path.join(folder, "a-flow.json"), path.join(folder, "b-flow.json"));
  copyFlows(folder, to);
  assert.deepEqual(fs.readdirSync(to), ["b-flow.json"]);
  fs.rmSync(folder, { recursive: true });
});
