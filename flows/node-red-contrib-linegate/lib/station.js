"use strict";

// What the retained topic `status` says of the bridge.

const { EventEmitter } = require("node:events");
const { readStatus } = require("./documents");

const SILENT_MS = 5000; // a bridge that works beats twice a second

/** Emits "change" when what a lamp shows may have changed. */
class Station extends EventEmitter {
  constructor() {
    super();
    this.setMaxListeners(0);
    this.forget();
  }

  /** Know nothing: the connection is gone. */
  forget() {
    clearTimeout(this._timer);
    this.heard = false;
    this.online = false;
    this.silent = false;
    this.status = {};
  }

  /**
   * Take a message of topic `status`; one that can't be read counts as a bridge that is not there.
   * @param {Buffer} payload the message
   */
  take(payload) {
    clearTimeout(this._timer);
    this.heard = true;
    this.silent = false;
    try {
      this.status = readStatus(payload);
    } catch (error) {
      if (error.name !== "ValueProblem") throw error;
      this.status = { online: false };
    }
    this.online = this.status.online;
    if (this.online) {
      this._timer = setTimeout(() => this._hush(), SILENT_MS);
      this._timer.unref();
    }
    this.emit("change");
  }

  _hush() {
    this.online = false;
    this.silent = true;
    this.emit("change");
  }
}

module.exports = { Station };
