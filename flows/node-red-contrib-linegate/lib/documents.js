"use strict";

// What the bridge publishes, read strictly: nothing that is doubtful leaves here as a verdict.

const { ValueProblem } = require("./settings");

const CODES = { PASS: 1, FAIL: 2, UNCERTAIN: 3, ERROR: 4, LATE: 5 };
const DISPOSITIONS = ["NONE", "LET_PASS", "REJECT"];
const EVENTS = ["ordered", "fired", "missed", "confirmed"];
const STATES = ["raised", "cleared"];
const MAX_BYTES = 4_000_000;
const MAX_U32 = 2 ** 32 - 1;
const utf8 = new TextDecoder("utf-8", { fatal: true });

function objectOf(payload) {
  if (payload.length > MAX_BYTES) throw new ValueProblem("the message", payload, `are at most ${MAX_BYTES} bytes`);
  let found;
  try {
    found = JSON.parse(utf8.decode(payload));
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error;
    throw new ValueProblem("the message", payload.toString("latin1"), "is a JSON object in UTF-8");
  }
  if (found === null || typeof found !== "object" || Array.isArray(found)) {
    throw new ValueProblem("the message", found, "is a JSON object");
  }
  return found;
}

function whole(document, key, low, high) {
  const value = document[key];
  if (!Number.isInteger(value) || value < low || value > high) {
    throw new ValueProblem(key, value, `are whole numbers from ${low} to ${high}`);
  }
}

function oneOf(document, key, allowed) {
  if (!allowed.includes(document[key])) throw new ValueProblem(key, document[key], `are ${allowed.join(", ")}`);
}

function partOf(document) {
  whole(document, "sequence", 0, MAX_U32);
  const id = document.part_id;
  if (typeof id !== "string" || id.length < 1 || id.length > 256) {
    throw new ValueProblem("part_id", id, "are 1 to 128 printable characters");
  }
}

/**
 * Read a verdict.
 * @param {Buffer} payload the message
 * @param {object} settings line and station that it must name
 * @returns {object} the JSON document
 * @throws {ValueProblem} if anything by which a part is sorted is missing, unknown or contradicts itself
 */
function readVerdict(payload, { line, station }) {
  const verdict = objectOf(payload);
  oneOf(verdict, "line", [line]);
  oneOf(verdict, "station", [station]);
  partOf(verdict);
  whole(verdict, "epoch", 0, Number.MAX_SAFE_INTEGER);
  oneOf(verdict, "verdict", Object.keys(CODES));
  oneOf(verdict, "code", [CODES[verdict.verdict]]);
  oneOf(verdict, "disposition", DISPOSITIONS);
  oneOf(verdict, "replayed", [true, false]);
  return verdict;
}

/** @returns {boolean} whether a checked verdict is a PASS that lets its part pass; a FAIL that a policy lets pass is none */
function isPass(verdict) {
  return verdict.verdict === "PASS" && verdict.disposition === "LET_PASS";
}

/** @returns {boolean} whether the part of a checked verdict is to be rejected */
function isReject(verdict) {
  return verdict.disposition === "REJECT";
}

/**
 * Read a report of what became of a gate order.
 * @param {Buffer} payload the message
 * @returns {object} the JSON document
 * @throws {ValueProblem} if event or part can't be read
 */
function readReport(payload) {
  const report = objectOf(payload);
  oneOf(report, "event", EVENTS);
  partOf(report);
  return report;
}

/**
 * Read an alarm.
 * @param {Buffer} payload the message
 * @returns {object} the JSON document
 * @throws {ValueProblem} if code, name or state can't be read
 */
function readAlarm(payload) {
  const alarm = objectOf(payload);
  whole(alarm, "code", 1, 65535);
  oneOf(alarm, "state", STATES);
  if (typeof alarm.name !== "string" || !alarm.name) throw new ValueProblem("name", alarm.name, "is the alarm's name");
  return alarm;
}

/**
 * Read the station's status.
 * @param {Buffer} payload the message
 * @returns {object} the JSON document
 * @throws {ValueProblem} if it does not say whether the bridge is there
 */
function readStatus(payload) {
  const status = objectOf(payload);
  oneOf(status, "online", [true, false]);
  return status;
}

module.exports = { CODES, EVENTS, isPass, isReject, readAlarm, readReport, readStatus, readVerdict };
