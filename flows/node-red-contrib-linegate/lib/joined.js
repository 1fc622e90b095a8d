"use strict";

// What the three nodes have in common: their line, their lamp, and an end.

const { Lamp, lineLamp, withText, worse } = require("./lamp");

const NO_LINE = { fill: "red", shape: "ring", text: "no line is chosen" };
const BAD_LINE = { fill: "red", shape: "ring", text: "the line's settings are wrong" };

/**
 * Join a node to its line, and keep its lamp in step with connection and bridge.
 * @param {object} node of Node-RED; gets `link`, `station`, `lamp` and `refresh`
 * @param {object|null} line the configuration node
 * @param {string} needed the topic without which the node is deaf, or ""
 * @param {function(): {text: string, fill: string=}} own gives the node's own text, and a colour if it is worse than the line's
 * @returns {boolean} whether there is a line that can be used
 */
function join(node, line, needed, own) {
  node.lamp = new Lamp(node);
  node.on("close", () => {
    node.lamp.close();
    node.status({});
  });
  if (!line || !line.link) {
    node.lamp.show(line ? BAD_LINE : NO_LINE);
    return false;
  }
  const { link, station } = line;
  node.link = link;
  node.station = station;
  node.refresh = () => {
    const base = lineLamp(link, station, needed);
    const { text, fill } = own();
    node.lamp.show(withText(worse(base, fill), text));
  };
  link.on("change", node.refresh);
  station.on("change", node.refresh);
  node.on("close", () => {
    link.off("change", node.refresh);
    station.off("change", node.refresh);
  });
  line.open();
  node.refresh();
  return true;
}

/**
 * Take a topic until the node is closed; what can't be read becomes an error of the node and nothing else.
 * @param {object} node that was joined
 * @param {string} suffix the topic
 * @param {function(Buffer): object} read checks a message, or throws a ValueProblem
 * @param {function(object, string): void} take gets the document and its topic
 */
function listen(node, suffix, read, take) {
  const topic = `${node.link.settings.base}/${suffix}`;
  const stop = node.link.hear(suffix, (payload, packet) => {
    let document;
    try {
      if (packet.retain) throw Object.assign(new Error("it is retained, so it is of some earlier part"), { name: "ValueProblem" });
      document = read(payload);
    } catch (error) {
      if (error.name !== "ValueProblem") throw error;
      node.unreadable += 1;
      node.error(`a message on ${topic} is not used: ${error.message}`, { topic, payload });
      node.refresh();
      return;
    }
    take(document, topic);
    node.refresh();
  });
  node.unreadable = 0;
  node.on("close", stop);
}

module.exports = { join, listen };
