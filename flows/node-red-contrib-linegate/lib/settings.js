"use strict";

// The settings of a line's node, as they come from the editor: texts, some of them out of the environment.

const NAME = /^[A-Za-z][A-Za-z0-9_-]{0,31}$/;
const ROOT = /^[^+#\u0000\s$/][^+#\u0000\s/]*(\/[^+#\u0000\s/]+)*$/;
const HOST = /^[^\s/:]+$|^[0-9A-Fa-f:.]+$/;
const CLIENT_ID = /^[A-Za-z0-9_.:-]{1,128}$/;
const UNSET = /^\$[{(].*[})]$/;
const NAME_RULE = "a letter, then up to 31 letters, digits, _ or -";

/** A setting or a field that can't be used; its message names the key, the value and what is allowed. */
class ValueProblem extends Error {
  constructor(key, value, allowed) {
    super(`${key} is ${show(value)}: allowed ${allowed}`);
    this.name = "ValueProblem";
    this.code = "BAD_INPUT";
    this.key = key;
  }
}

/**
 * Quote any value in at most 70 characters, so that no picture and no page of text gets into a log.
 * @param {*} value what somebody gave us
 * @returns {string} it, or what kind of thing it is
 */
function show(value) {
  if (value === undefined) return "missing";
  if (Buffer.isBuffer(value)) return `a Buffer of ${value.length} bytes`;
  if (typeof value === "number" || typeof value === "bigint") return String(value).slice(0, 64);
  if (typeof value === "function" || typeof value === "symbol") return `a ${typeof value}`;
  if (Array.isArray(value)) return "a list";
  if (value !== null && typeof value === "object") return "an object";
  const text = JSON.stringify(value);
  return text.length <= 66 ? text : `${text.slice(0, 64)}...`;
}

function matching(key, value, pattern, rule) {
  refuseUnset(key, value);
  if (typeof value !== "string" || !pattern.test(value)) throw new ValueProblem(key, value, `is ${rule}`);
  return value;
}

/** Node-RED leaves a variable that is not set as it stands. */
function refuseUnset(key, value) {
  if (UNSET.test(value)) throw new ValueProblem(key, value, "is what an environment variable gives, and this one is not set");
}

/**
 * Read a whole number from a field of the editor, where numbers are texts.
 * @param {string} key the name in the message
 * @param {*} value a number or its decimal text
 * @param {number} low the least allowed
 * @param {number} high the most allowed
 * @returns {number} the number
 * @throws {ValueProblem} if it is no whole number from `low` to `high`
 */
function wholeField(key, value, low, high) {
  refuseUnset(key, value);
  const number = typeof value === "string" && /^[0-9]{1,10}$/.test(value.trim()) ? Number(value) : value;
  if (!Number.isInteger(number) || number < low || number > high) {
    throw new ValueProblem(key, value, `are whole numbers from ${low} to ${high}`);
  }
  return number;
}

/**
 * Check what stands in a line's node.
 * @param {object} config the node's fields: host, port, root, line, station, clientid
 * @param {string} ownId the client id if none is given
 * @returns {object} host, port, clientId, and `base`, the topic of the station without a slash behind it
 * @throws {ValueProblem} for the first field that is wrong
 */
function readSettings(config, ownId) {
  const line = matching("line", config.line, NAME, NAME_RULE);
  const station = matching("station", config.station, NAME, NAME_RULE);
  const root = matching("root", config.root, ROOT, "a topic without +, #, spaces and a slash at either end");
  const clientId = config.clientid ? matching("client id", config.clientid, CLIENT_ID, "1 to 128 letters, digits, _, ., : or -") : ownId;
  if (clientId === `linegate-${line}-${station}`) {
    throw new ValueProblem("client id", clientId, "is any but this, which is the bridge's own: the broker would cut it off");
  }
  return {
    host: matching("broker", config.host, HOST, "a host name or an address, without a port"),
    port: wholeField("port", config.port, 1, 65535),
    line, station, clientId, base: `${root}/${line}/${station}`,
  };
}

module.exports = { ValueProblem, readSettings, show, wholeField };
