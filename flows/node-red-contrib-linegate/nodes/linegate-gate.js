"use strict";

const { EVENTS, readAlarm, readReport } = require("../lib/documents");
const { join, listen } = require("../lib/joined");

const SEVERE = ["error", "critical"];

/** The alarms that stand: those that came, or else the one of the status, which stood before the flow started. */
function standing(node) {
  const { error_code: code } = node.station.status;
  if (node.station.online && code > 0 && !node.alarms.size) return [{ name: `alarm ${code}`, severity: "unknown" }];
  return [...node.alarms.values()];
}

function ownText(node) {
  const raised = standing(node);
  const parts = [
    node.last && `${node.last.sequence} ${node.last.event}`,
    node.missed && `${node.missed} missed`,
    raised.length && raised[raised.length - 1].name + (raised.length > 1 ? ` and ${raised.length - 1} more` : ""),
  ];
  const severe = node.last?.event === "missed" || raised.some(({ severity }) => SEVERE.includes(severity));
  const fill = severe ? "red" : raised.length || node.unreadable ? "yellow" : undefined;
  return { text: parts.filter(Boolean).join(" · "), fill };
}

function takeReport(node, report, topic) {
  node.last = report;
  if (report.event === "missed") node.missed += 1;
  if (!node.events.includes(report.event)) return;
  const { event, sequence, part_id, reason } = report;
  node.send([{ topic, payload: report, event, sequence, part_id, reason, error_ms: report.error_ms }, null]);
}

function takeAlarm(node, alarm, topic) {
  if (alarm.state === "raised") node.alarms.set(alarm.code, alarm);
  else node.alarms.delete(alarm.code);
  const { code, name, state, severity } = alarm;
  node.send([null, { topic, payload: alarm, code, name, state, severity }]);
}

module.exports = function register(RED) {
  function LinegateGate(config) {
    RED.nodes.createNode(this, config);
    this.events = EVENTS.filter((event) => config[event] !== false);
    this.alarms = new Map();
    this.missed = 0;
    this.unreadable = 0;
    this.last = null;
    if (!join(this, RED.nodes.getNode(config.line), "gate", () => ownText(this))) return;
    listen(this, "gate", readReport, (report, topic) => takeReport(this, report, topic));
    listen(this, "alarm", readAlarm, (alarm, topic) => takeAlarm(this, alarm, topic));
    const heard = () => {
      // an alarm may have ended while nobody was connected to hear it
      if (!this.station.online || this.station.status.error_code !== 0 || !this.alarms.size) return;
      this.alarms.clear();
      this.refresh();
    };
    this.station.on("change", heard);
    this.on("close", () => this.station.off("change", heard));
  }
  RED.nodes.registerType("linegate-gate", LinegateGate);
};
