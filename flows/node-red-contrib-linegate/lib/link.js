"use strict";

// The one MQTT 5 connection that the nodes of a line share.
//
// A lost connection is replaced by a new one with an empty store: the library would send what was not acknowledged
// again when the broker is back, and a trigger that comes late is gated as if its part had come late.

const { EventEmitter } = require("node:events");
const mqtt = require("mqtt");

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 5000;
const NO_SUBSCRIBER = 0x10;
const KEPT = new Set(["status"]); // the topics whose retained message counts; elsewhere it would be an old part's

/** A message that did not get to the bridge, or of which that is not known; `code` says why. */
class SendProblem extends Error {
  constructor(code, text) {
    super(text);
    this.name = "SendProblem";
    this.code = code;
  }
}

/**
 * How long to wait before the next try: it doubles from 0.25 s to 5 s, and no two clients keep step.
 * @param {number} tries how many failed in a row, from 0
 * @param {function(): number} random gives a number from 0 to 1
 * @returns {number} ms
 */
function waitBefore(tries, random = Math.random) {
  return Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** tries) * (0.5 + random() / 2);
}

/**
 * Emits "change" when the connection came or went or a subscription was granted or refused, "lost" (why) and "back" once each,
 * and "refused" (topic).
 */
class Link extends EventEmitter {
  /**
   * @param {object} settings what `readSettings` gave
   * @param {object} options what mqtt.js takes beside them: username, password, TLS
   */
  constructor(settings, options = {}) {
    super();
    this.setMaxListeners(0);
    this.settings = settings;
    this.connected = false;
    this._options = options;
    this._takers = new Map(); // suffix -> Set of functions
    this._granted = new Set();
    this._refused = new Set();
    this._pending = new Set(); // functions that end what waits for an acknowledgement
    this._unheard = new Set(); // messages that the broker took for nobody
    this._tries = 0;
    this._told = false;
    this._closed = true;
  }

  /** Connect, and again and again, until `close`. */
  open() {
    if (!this._closed) return;
    this._closed = false;
    this._connect();
  }

  /**
   * End the connection in good order; what waits for an acknowledgement fails.
   * @returns {Promise<void>} fulfilled when the socket is closed
   */
  close() {
    this._closed = true;
    clearTimeout(this._timer);
    const client = this._forget();
    this._failAll(new SendProblem("CLOSED", "the node was closed before the broker acknowledged"));
    if (!client) return Promise.resolve();
    return new Promise((resolve) => {
      const limit = setTimeout(() => client.end(true), 500);
      client.end(false, {}, () => {
        clearTimeout(limit);
        resolve();
      });
    });
  }

  /** @returns {boolean} whether the broker grants what comes on this topic */
  hears(suffix) {
    return this.connected && this._granted.has(suffix);
  }

  /** @returns {boolean} whether the broker refused this topic */
  isRefused(suffix) {
    return this._refused.has(suffix);
  }

  /**
   * Take what comes on a topic below the station's.
   * @param {string} suffix the topic's last part
   * @param {function(Buffer, object): void} take gets payload and packet
   * @returns {function(): void} ends it
   */
  hear(suffix, take) {
    if (!this._takers.has(suffix)) {
      this._takers.set(suffix, new Set());
      if (this.connected) this._subscribe(suffix);
    }
    this._takers.get(suffix).add(take);
    return () => this._unhear(suffix, take);
  }

  /**
   * Publish with QoS 1, now or not at all.
   * @param {string} suffix the topic below the station's
   * @param {Buffer|string} payload what to send
   * @param {object} properties of MQTT 5
   * @param {number} limitMs how long the broker has to acknowledge; then the connection is cut, so that nothing goes out later
   * @returns {Promise<void>} rejected with a SendProblem: OFFLINE, NO_ACK, LOST, NOBODY, REFUSED or CLOSED
   */
  publish(suffix, payload, properties, limitMs) {
    const { host, port, base } = this.settings;
    if (!this.connected) {
      return Promise.reject(new SendProblem("OFFLINE", `not sent: no connection to the broker ${host}:${port}`));
    }
    return new Promise((resolve, reject) => {
      const settle = (problem) => {
        clearTimeout(timer);
        if (!this._pending.delete(settle)) return;
        if (problem) reject(problem);
        else resolve();
      };
      const timer = setTimeout(() => {
        settle(new SendProblem("NO_ACK", `the broker did not acknowledge within ${limitMs} ms; whether the bridge got it is not known`));
        this._drop("the broker is silent", true);
      }, limitMs);
      this._pending.add(settle);
      this._client.publish(`${base}/${suffix}`, payload, { qos: 1, retain: false, properties }, (error, packet) => {
        const unheard = packet && this._unheard.delete(packet.messageId);
        settle(problemOf(error, unheard, `${base}/${suffix}`));
      });
    });
  }

  _connect() {
    const { host, port, clientId } = this.settings;
    const client = mqtt.connect({
      protocol: "mqtt", keepalive: 10, connectTimeout: 5000, ...this._options,
      host, port, clientId, protocolVersion: 5, clean: true, reconnectPeriod: 0, queueQoSZero: false, resubscribe: false,
    });
    this._client = client;
    this._ears = {
      connect: () => this._opened(),
      message: (topic, payload, packet) => this._arrived(topic, payload, packet),
      // the library tells nobody of this reason
      packetreceive: ({ cmd, reasonCode, messageId }) => {
        if (cmd === "puback" && reasonCode === NO_SUBSCRIBER) this._unheard.add(messageId);
      },
      disconnect: (packet) => this._drop(reasonOf(packet)),
      error: (error) => this._drop(error.message || error.code || String(error)),
      close: () => this._drop(this._isYoung() ? `closed soon after it was made: does another client have the id ${clientId}?` : "the connection was closed"),
    };
    for (const [event, ear] of Object.entries(this._ears)) client.on(event, ear);
  }

  _isYoung() {
    return this.connected && performance.now() - this._openedMs < LONGEST_WAIT_MS;
  }

  _opened() {
    this._openedMs = performance.now();
    this._told = false;
    this._unheard.clear();
    this.connected = true;
    this._granted.clear();
    this._refused.clear();
    for (const suffix of this._takers.keys()) this._subscribe(suffix);
    this.emit("back");
    this.emit("change");
  }

  _subscribe(suffix) {
    const client = this._client;
    const topic = `${this.settings.base}/${suffix}`;
    client.subscribe(topic, { qos: 1, rh: KEPT.has(suffix) ? 0 : 2 }, (error, granted) => {
      if (client !== this._client || !this.connected) return;
      const refused = error || !granted.length || granted[0].qos >= 128;
      (refused ? this._refused : this._granted).add(suffix);
      if (refused) this.emit("refused", topic);
      this.emit("change");
    });
  }

  _unhear(suffix, take) {
    const takers = this._takers.get(suffix);
    if (!takers || !takers.delete(take) || takers.size) return;
    this._takers.delete(suffix);
    this._granted.delete(suffix);
    if (this.connected) this._client.unsubscribe(`${this.settings.base}/${suffix}`, () => {});
  }

  _arrived(topic, payload, packet) {
    const takers = this._takers.get(topic.slice(this.settings.base.length + 1));
    for (const take of takers ? [...takers] : []) take(payload, packet);
  }

  _drop(why, reset = false) {
    // one that is cut off again and again, by another with the same client id, must not try four times a second
    if (this.connected && !this._isYoung()) this._tries = 0;
    const client = this._forget();
    if (!client) return;
    cut(client, reset);
    this._failAll(lost(why));
    if (!this._told) this.emit("lost", why);
    this._told = true;
    this.emit("change");
    if (!this._closed) this._timer = setTimeout(() => this._connect(), waitBefore(this._tries++));
  }

  _forget() {
    const client = this._client;
    this._client = null;
    this.connected = false;
    if (client) {
      client.on("error", () => {}); // what it still complains of is told already
      for (const [event, ear] of Object.entries(this._ears)) client.off(event, ear);
    }
    return client;
  }

  _failAll(problem) {
    for (const settle of [...this._pending]) settle(problem);
  }
}

function cut(client, reset) {
  const { stream } = client;
  // a reset takes back what lies unsent in this machine's memory; TLS has none
  if (reset && client.options.protocol === "mqtt" && stream && stream.resetAndDestroy) stream.resetAndDestroy();
  client.end(true);
}

function lost(why) {
  return new SendProblem("LOST", `the connection was lost before the broker acknowledged (${why}); whether the bridge got it is not known`);
}

function problemOf(error, unheard, topic) {
  if (error && error.code >= 0x80) return new SendProblem("REFUSED", `the broker refused it: ${error.message}`);
  if (error) return lost(error.message);
  if (unheard) {
    return new SendProblem("NOBODY", `nobody is subscribed to ${topic}: the bridge never was at this broker, or line and station are others`);
  }
  return null;
}

function reasonOf(packet) {
  const TAKEN = 0x8e;
  const code = packet && packet.reasonCode;
  return code === TAKEN ? "another client came with the same client id" : `the broker ended it, reason ${code}`;
}

module.exports = { Link, SendProblem, waitBefore };
