"use strict";

// Sequences are u32 counters: 4294967295 is followed by 0.

const MODULUS = 2 ** 32;
const OUT_OF_ORDER = 16; // so far behind, a sequence is merely late; the bridge counts the same way

/** Counts the triggers that have no number of their own. */
class Counter {
  /** @param {number} next the number of the next trigger */
  constructor(next) {
    this.next = next % MODULUS;
  }

  /** @returns {number} the next number; each is given once */
  take() {
    const taken = this.next;
    this.next = (taken + 1) % MODULUS;
    return taken;
  }

  /** Go on behind a number that somebody else gave. */
  follow(sequence) {
    this.next = (sequence + 1) % MODULUS;
  }
}

/** Counts the sequences for which no verdict came, as the bridge counts missed triggers. */
class Gaps {
  constructor() {
    this.missed = 0;
    this._last = null;
    this._epoch = null;
  }

  /**
   * Take the next verdict.
   * @param {number} epoch the run of the trigger's counter
   * @param {number} sequence u32
   * @returns {number} how many were missed just before this one
   */
  take(epoch, sequence) {
    if (this._epoch === null || epoch > this._epoch) {
      this._epoch = epoch;
      this._last = sequence;
      return 0;
    }
    if (epoch < this._epoch) return 0; // a late record of an earlier run
    const ahead = (sequence - this._last + MODULUS) % MODULUS;
    if (ahead > 0 && ahead < MODULUS / 2) {
      this._last = sequence;
      this.missed += ahead - 1;
      return ahead - 1;
    }
    if (MODULUS - ahead <= OUT_OF_ORDER && this.missed > 0) this.missed -= 1; // it had been counted as missed
    return 0;
  }
}

/** Remembers the last keys, so that a message that the broker brings twice is taken once. */
class Seen {
  /** @param {number} limit how many */
  constructor(limit) {
    this._limit = limit;
    this._keys = new Set();
  }

  /** @returns {boolean} whether `key` is new; it is known from now on */
  isNew(key) {
    if (this._keys.has(key)) return false;
    this._keys.add(key);
    if (this._keys.size > this._limit) this._keys.delete(this._keys.values().next().value);
    return true;
  }
}

module.exports = { Counter, Gaps, MODULUS, Seen };
