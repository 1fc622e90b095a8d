"use strict";

// A message of a flow becomes a trigger: the picture itself with its fields in user properties, or JSON.

const { ValueProblem } = require("./settings");
const { MODULUS } = require("./sequence");

const PNG = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
const JPEG = Buffer.from([0xff, 0xd8, 0xff]);
const PRINTABLE = /^[^\p{C}\p{Zl}\p{Zp}\p{Zs}]$|^ $/u;
const STAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/;
const PAYLOADS = "are a Buffer with a JPEG or PNG, {path: \"...\"}, or {} if the station's camera takes the picture";

const whole = (low, high) => (key, value) => {
  if (!Number.isInteger(value) || value < low || value > high) {
    throw new ValueProblem(key, value, `are whole numbers from ${low} to ${high}`);
  }
  return value;
};
const above0 = (high) => (key, value) => {
  if (typeof value !== "number" || !(value > 0 && value <= high)) {
    throw new ValueProblem(key, value, `are numbers above 0 up to ${high}`);
  }
  return value;
};
const printable = (high) => (key, value) => {
  const letters = typeof value === "string" ? [...value] : [];
  if (!letters.length || letters.length > high || !letters.every((each) => PRINTABLE.test(each))) {
    throw new ValueProblem(key, value, `are 1 to ${high} printable characters`);
  }
  return value;
};
const stamp = (key, value) => {
  const text = value instanceof Date && !Number.isNaN(value.getTime()) ? value.toISOString() : value;
  if (typeof text !== "string" || !STAMP.test(text)) {
    throw new ValueProblem(key, value, "is a Date or an RFC 3339 time as 2026-11-21T08:00:00.123Z");
  }
  return text;
};

/** The fields of a trigger, and who checks each. */
const FIELDS = {
  sequence: whole(0, MODULUS - 1),
  part_id: printable(128),
  ts: stamp,
  encoder: whole(-(2 ** 31), MODULUS - 1),
  length_mm: above0(100000),
  eye_on_ms: above0(3600000),
  recipe: printable(128),
};

function fieldsOf(msg, inside) {
  const found = {};
  for (const [name, check] of Object.entries(FIELDS)) {
    const [outer, inner] = [msg[name], inside[name]].map((value) => (value === null ? undefined : value));
    if (outer !== undefined && inner !== undefined && outer !== inner) {
      throw new ValueProblem(`msg.${name}`, outer, "is what msg.payload says too, or it in one of the two places");
    }
    if (outer !== undefined) found[name] = check(`msg.${name}`, outer);
    else if (inner !== undefined) found[name] = check(`msg.payload.${name}`, inner);
  }
  return found;
}

/**
 * Tell by its first bytes what a picture is.
 * @param {Buffer} picture the whole file
 * @param {string} key its name in the message of an error
 * @returns {string} the media type
 * @throws {ValueProblem} if it is neither JPEG nor PNG
 */
function mediaType(picture, key) {
  if (picture.subarray(0, JPEG.length).equals(JPEG)) return "image/jpeg";
  if (picture.subarray(0, PNG.length).equals(PNG)) return "image/png";
  throw new ValueProblem(key, picture, "are JPEG and PNG");
}

function imageOf({ image, path }) {
  const text = printable(1024);
  if (path !== undefined && path !== null) {
    if (image !== undefined && image !== null) throw new ValueProblem("msg.payload", { image, path }, "is image or path, not both");
    return { path: text("msg.payload.path", path) };
  }
  if (image === undefined || image === null) return undefined;
  if (Buffer.isBuffer(image)) return { media_type: mediaType(image, "msg.payload.image"), data: image.toString("base64") };
  if (typeof image === "object" && typeof image.path === "string") return { path: text("msg.payload.image.path", image.path) };
  if (typeof image === "object" && ["image/jpeg", "image/png"].includes(image.media_type) && typeof image.data === "string" && image.data) {
    return { media_type: image.media_type, data: image.data };
  }
  throw new ValueProblem("msg.payload.image", image, "are a Buffer, {path}, or {media_type: \"image/jpeg\"|\"image/png\", data: base64}");
}

function decimal(value) {
  return Number.isInteger(value) ? String(value) : value.toFixed(6).replace(/0+$/, "");
}

/**
 * Read a message of a flow.
 * @param {object} msg its payload is a Buffer, or an object with `path` or `image` or neither
 * @returns {object} `picture` (Buffer) or `image` (what goes into JSON) or neither, and `fields`, all checked
 * @throws {ValueProblem} for the first thing that is wrong
 */
function readMessage(msg) {
  const { payload } = msg;
  if (payload instanceof Uint8Array) {
    const picture = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
    return { mediaType: mediaType(picture, "msg.payload"), picture, fields: fieldsOf(msg, {}) };
  }
  if (payload === null || typeof payload !== "object" || Array.isArray(payload) || payload instanceof Date) {
    throw new ValueProblem("msg.payload", payload, PAYLOADS);
  }
  return { image: imageOf(payload), fields: fieldsOf(msg, payload) };
}

/**
 * Make what is published.
 * @param {object} read what `readMessage` gave, its `fields` with a sequence
 * @returns {{payload: (Buffer|string), properties: object}} for MQTT 5
 */
function encodeTrigger({ picture, mediaType: contentType, image, fields }) {
  if (!picture) return { payload: JSON.stringify({ ...fields, image }), properties: { contentType: "application/json" } };
  const userProperties = Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [name, typeof value === "number" ? decimal(value) : value]),
  );
  return { payload: picture, properties: { contentType, userProperties } };
}

module.exports = { encodeTrigger, readMessage };
