"use strict";

// The lamp below a node: what a fitter sees first.

const RANK = { green: 0, yellow: 1, red: 2 };
const PERIOD_MS = 250; // a lamp that changes more often only loads the editor

/** Shows the newest status, at most four times a second, and nothing twice. */
class Lamp {
  /** @param {object} node of Node-RED */
  constructor(node) {
    this._node = node;
    this._shown = "";
    this._next = null;
    this._timer = null;
  }

  /** @param {{fill: string, shape: string, text: string}} status as Node-RED takes it */
  show(status) {
    this._next = status;
    if (this._timer === null) this._light();
  }

  /** End it: nothing is shown any more. */
  close() {
    clearTimeout(this._timer);
    this._next = null;
  }

  _light() {
    this._timer = null;
    if (this._next === null) return;
    const key = JSON.stringify(this._next);
    if (key !== this._shown) {
      this._shown = key;
      this._node.status(this._next);
      this._timer = setTimeout(() => this._light(), PERIOD_MS);
      this._timer.unref();
    }
  }
}

/**
 * What the lamp says of connection and bridge, before anything of the node's own.
 * @param {object} link the connection
 * @param {object} station what is known of the bridge
 * @param {string} needed the topic without which the node is deaf, or ""
 * @returns {{fill: string, shape: string, text: string}} green only if all is well
 */
function lineLamp(link, station, needed) {
  const { host, port } = link.settings;
  if (!link.connected) return { fill: "red", shape: "ring", text: `no broker at ${host}:${port}` };
  if (needed && link.isRefused(needed)) return { fill: "red", shape: "ring", text: `the broker refuses ${needed}` };
  if (!station.heard) return { fill: "yellow", shape: "ring", text: "the bridge was not heard yet" };
  if (!station.online) return { fill: "yellow", shape: "ring", text: station.silent ? "the bridge is silent" : "the bridge is offline" };
  if (station.status.stop_request === true) return { fill: "red", shape: "dot", text: "STOP REQUEST" };
  if (station.status.dry_run === true) return { fill: "yellow", shape: "dot", text: "dry run" };
  if (station.status.degraded === true) return { fill: "yellow", shape: "dot", text: "degraded" };
  return { fill: "green", shape: "dot", text: "" };
}

/**
 * Let a node's own colour count where it is worse than the line's; a ring stays, for then the node knows nothing.
 * @param {{fill: string, shape: string, text: string}} base of `lineLamp`
 * @param {string} fill the node's own, or nothing
 * @returns {{fill: string, shape: string, text: string}} the lamp
 */
function worse(base, fill) {
  return fill && base.shape === "dot" && RANK[fill] > RANK[base.fill] ? { ...base, fill } : base;
}

/**
 * Put a node's own text behind what the line says.
 * @param {{fill: string, shape: string, text: string}} base of `lineLamp`
 * @param {string} text the node's own
 * @returns {{fill: string, shape: string, text: string}} both
 */
function withText(base, text) {
  return { ...base, text: [base.text, text].filter(Boolean).join(" · ") };
}

module.exports = { Lamp, lineLamp, withText, worse };
