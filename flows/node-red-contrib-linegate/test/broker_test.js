"use strict";

// The nodes when the broker goes, freezes, comes back, refuses, asks for a password or for TLS.

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const { execFileSync } = require("node:child_process");
const { afterEach, beforeEach, test } = require("node:test");
const helper = require("node-red-node-test-helper");
const { Link } = require("../lib/link");
const { readSettings } = require("../lib/settings");
const { BASE, Mosquitto, SETTINGS, Twin, eventually, pause, verdictOf } = require("./broker");

const TLS = require("@node-red/nodes/core/network/05-tls.js");
const NODES = [...["line", "trigger", "verdict"].map((name) => require(`../nodes/linegate-${name}`)), TLS];
const RECOVERY_MS = 10_000;
let broker;
let twin;

helper.init(require.resolve("node-red"));

beforeEach(async () => {
  broker = new Mosquitto();
  twin = new Twin();
  await helper.startServer();
});
afterEach(async () => {
  await helper.unload();
  await helper.stopServer();
  if (twin.client) await twin.end();
  await broker.end();
});

const flow = (changes = {}, trigger = {}) => [
  { id: "line", type: "linegate-line", port: String(broker.port), ...SETTINGS, ...changes },
  { id: "trigger", type: "linegate-trigger", line: "line", wires: [["sent"], ["failed"]], ...trigger },
  { id: "verdict", type: "linegate-verdict", line: "line", wires: [[], [], ["all"]] },
  ...["sent", "failed", "all"].map((id) => ({ id, type: "helper" })),
];
const fillOf = (id) => helper.getNode(id).status.lastCall?.args[0].fill;

async function load(nodes, credentials = {}) {
  await helper.load(NODES, nodes, credentials);
  const came = { sent: [], failed: [], all: [] };
  for (const [id, list] of Object.entries(came)) helper.getNode(id).on("input", (msg) => list.push(msg));
  return came;
}

test("a killed broker: triggers fail at once and are never sent later; all goes on within 10 s of its return", async () => {
  await broker.start();
  await twin.start(broker.port);
  await twin.status();
  const came = await load(flow());
  await eventually(() => fillOf("verdict") === "green");
  await broker.kill();
  await eventually(() => fillOf("verdict") === "red" && fillOf("trigger") === "red");
  for (let part = 0; part < 3; part += 1) helper.getNode("trigger").receive({ payload: {} });
  await eventually(() => came.failed.length === 3);
  assert.deepEqual(came.failed.map((msg) => [msg.sequence, msg.error.code]), [[1, "OFFLINE"], [2, "OFFLINE"], [3, "OFFLINE"]]);
  await pause(3000); // the waits between the tries have grown meanwhile
  await broker.start();
  const back = Date.now();
  await eventually(() => helper.getNode("line").link.hears("verdict") && twin.client.connected, RECOVERY_MS);
  await eventually(() => twin.status().then(() => fillOf("verdict") === "green"), RECOVERY_MS);
  helper.getNode("trigger").receive({ payload: {} });
  await eventually(() => twin.triggers.length > 0 && came.sent.length > 0);
  await twin.say("verdict", verdictOf(4));
  await eventually(() => came.all.length === 1);
  assert.ok(Date.now() - back < RECOVERY_MS, `${Date.now() - back} ms`);
  assert.deepEqual(twin.triggers.map(({ payload }) => JSON.parse(payload).sequence), [4]);
});

test("a broker that freezes acknowledges nothing: an error within the limit, and the connection is made anew", async () => {
  await broker.start();
  await twin.start(broker.port);
  await twin.status();
  const came = await load(flow({}, { ackMs: "300" }));
  await eventually(() => fillOf("trigger") === "green");
  broker.process.kill("SIGSTOP");
  const begun = Date.now();
  helper.getNode("trigger").receive({ payload: {} });
  await eventually(() => came.failed.length === 1);
  assert.ok(Date.now() - begun < 2000);
  assert.equal(came.failed[0].error.code, "NO_ACK");
  assert.equal(helper.getNode("line").link.connected, false);
  broker.process.kill("SIGCONT");
  await eventually(() => helper.getNode("line").link.hears("status"), RECOVERY_MS);
  helper.getNode("trigger").receive({ payload: {} });
  await eventually(() => came.sent.length === 1, RECOVERY_MS);
});

test("a connection that dies before the acknowledgement is an error, and the message is not sent again", async () => {
  await broker.start();
  const link = new Link(readSettings({ ...SETTINGS, port: broker.port }, "me"));
  link.open();
  await eventually(() => link.connected);
  broker.process.kill("SIGSTOP");
  const sent = link.publish("trigger", "{}", {}, 5000).then(() => "sent", (problem) => problem.code);
  await pause(50);
  await broker.kill();
  assert.equal(await sent, "LOST");
  await broker.start();
  await twin.start(broker.port);
  await eventually(() => link.connected, RECOVERY_MS);
  await pause(300);
  assert.equal(twin.triggers.length, 0);
  await link.close();
});

test("nodes of one line share one connection, with a client id of its own", async () => {
  await broker.start(`allow_anonymous true\nlog_type all\nlog_dest file ${path.join(require("node:os").tmpdir(), `linegate-${process.pid}.log`)}\n`);
  const log = path.join(require("node:os").tmpdir(), `linegate-${process.pid}.log`);
  await load(flow());
  await eventually(() => fillOf("verdict") === "yellow");
  const clients = fs.readFileSync(log, "utf8").split("\n").filter((line) => line.includes("New client connected"));
  fs.rmSync(log);
  assert.equal(clients.length, 1);
  assert.match(clients[0], / as linegate-flow-[0-9a-f]{12} \(p5, c1, k10\)/);
});

test("two with one client id push each other out ever more rarely, and say so", async () => {
  await broker.start();
  const settings = readSettings({ ...SETTINGS, port: broker.port, clientid: "twice" }, "");
  const why = [];
  const links = [new Link(settings), new Link(settings)];
  for (const link of links) {
    link.on("lost", (reason) => why.push(reason));
    link.open();
  }
  await pause(4000);
  await Promise.all(links.map((link) => link.close()));
  assert.match(why[0], /another client (came with the same client id|have the id twice)/);
  assert.ok(why.length >= 2 && why.length <= 12, `${why.length} losses`);
});

test("user and password, and a broker that refuses them", async () => {
  const broken = new Mosquitto();
  broker = broken;
  await broker.start(); // for its folder
  await broker.kill();
  const passwords = path.join(broker.folder, "passwords");
  execFileSync("mosquitto_passwd", ["-c", "-b", passwords, "flow", "secret"]);
  await broker.start(`allow_anonymous false\npassword_file ${passwords}\n`);
  await load(flow(), { line: { user: "flow", password: "wrong" } });
  await eventually(() => helper.getNode("line").warn.callCount > 0);
  assert.match(helper.getNode("line").warn.lastCall.args[0], /[Nn]ot authorized|Bad User Name/);
  assert.equal(fillOf("verdict"), "red");
  await helper.unload();
  await load(flow(), { line: { user: "flow", password: "secret" } });
  await eventually(() => fillOf("verdict") === "yellow");
});

test("a topic that the broker refuses is told of by name", async () => {
  await broker.start();
  await broker.kill();
  const acl = path.join(broker.folder, "acl");
  fs.writeFileSync(acl, `topic read ${BASE}/status\n`);
  await broker.start(`allow_anonymous true\nacl_file ${acl}\n`);
  const came = await load(flow({}, { wait: true }));
  await eventually(() => helper.getNode("line").link.connected);
  helper.getNode("trigger").receive({ payload: {} });
  await eventually(() => came.failed.length === 1);
  assert.ok(["NO_REPLY", "REFUSED", "TIMEOUT"].includes(came.failed[0].error.code), came.failed[0].error.code);
  assert.equal(came.sent.length, 0);
});

test("TLS: a broker whose certificate is not trusted is refused; with its authority the nodes connect", async () => {
  await broker.start();
  await broker.kill();
  const [key, certificate] = ["key.pem", "cert.pem"].map((name) => path.join(broker.folder, name));
  execFileSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate], { stdio: "ignore" });
  await broker.start(`cafile ${certificate}\ncertfile ${certificate}\nkeyfile ${key}\nallow_anonymous true\n`);
  const settings = readSettings({ ...SETTINGS, port: broker.port }, "me");
  const refused = new Link(settings, { protocol: "mqtts", rejectUnauthorized: true });
  const why = new Promise((resolve) => refused.on("lost", resolve));
  refused.open();
  assert.match(await why, /self-signed certificate/);
  await refused.close();
  const authority = { id: "tls", type: "tls-config", ca: certificate, cert: "", key: "", verifyservercert: true };
  await load([authority, ...flow({ usetls: true, tls: "tls" })]);
  await eventually(() => fillOf("verdict") === "yellow");
});
