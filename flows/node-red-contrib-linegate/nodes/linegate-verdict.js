"use strict";

const { isPass, isReject, readVerdict } = require("../lib/documents");
const { join, listen } = require("../lib/joined");
const { Gaps, Seen } = require("../lib/sequence");

const REMEMBERED = 1000;
const FILTERS = { all: () => true, pass: isPass, reject: isReject };

/** Which outputs a verdict goes to: places of true. A replayed one is of an earlier part; it counts for sorting only where asked for. */
function placesOf(verdict, { mode, filter, replayed }) {
  if (verdict.replayed && replayed === "none") return [];
  const sorted = !verdict.replayed || replayed === "sorted";
  if (mode === "one") return [FILTERS[filter](verdict) && (filter === "all" || sorted)];
  return [sorted && isPass(verdict), sorted && isReject(verdict), true];
}

function ownText(node) {
  const parts = [
    node.last && `${node.last.sequence} ${node.last.verdict}${node.last.replayed ? " (replayed)" : ""}`,
    node.gaps.missed && `${node.gaps.missed} missed`,
    node.unreadable && `${node.unreadable} unreadable`,
  ];
  return { text: parts.filter(Boolean).join(" · "), fill: node.unreadable ? "yellow" : undefined };
}

function take(node, verdict, topic) {
  const { epoch, sequence } = verdict;
  if (!node.seen.isNew(`${epoch}/${sequence}/${verdict.decided_utc}/${verdict.replayed}`)) return;
  const missed = node.gaps.take(epoch, sequence);
  node.last = verdict;
  const msg = {
    topic, payload: verdict, verdict: verdict.verdict, disposition: verdict.disposition, sequence,
    part_id: verdict.part_id, replayed: verdict.replayed, missed,
  };
  const places = placesOf(verdict, node.choice);
  if (places.some(Boolean)) node.send(places.map((wanted) => (wanted ? msg : null)));
}

module.exports = function register(RED) {
  function LinegateVerdict(config) {
    RED.nodes.createNode(this, config);
    this.choice = {
      mode: config.mode === "one" ? "one" : "three",
      filter: Object.hasOwn(FILTERS, config.filter) ? config.filter : "reject",
      replayed: ["all", "sorted", "none"].includes(config.replayed) ? config.replayed : "all",
    };
    this.gaps = new Gaps();
    this.seen = new Seen(REMEMBERED);
    this.unreadable = 0;
    this.last = null;
    const line = RED.nodes.getNode(config.line);
    if (!join(this, line, "verdict", () => ownText(this))) return;
    listen(this, "verdict", (payload) => readVerdict(payload, line.settings), (verdict, topic) => take(this, verdict, topic));
  }
  RED.nodes.registerType("linegate-verdict", LinegateVerdict);
};
