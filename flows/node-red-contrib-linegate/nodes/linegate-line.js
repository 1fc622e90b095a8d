"use strict";

const { randomBytes } = require("node:crypto");
const { Link } = require("../lib/link");
const { readSettings } = require("../lib/settings");
const { Station } = require("../lib/station");

function optionsOf(RED, config, credentials) {
  const options = {};
  if (credentials.user) options.username = credentials.user;
  if (credentials.password) options.password = credentials.password;
  if (config.usetls === true || config.usetls === "true") {
    options.protocol = "mqtts";
    options.rejectUnauthorized = true;
    const tls = RED.nodes.getNode(config.tls);
    if (tls) tls.addTLSOptions(options);
  }
  return options;
}

function watch(node, { host, port, clientId }) {
  node.link.on("lost", (why) => node.warn(`the broker ${host}:${port} is lost: ${why}`));
  node.link.on("back", () => node.log(`connected to ${host}:${port} as ${clientId}`));
  node.link.on("refused", (topic) => node.error(`the broker refuses ${topic}: allow it in its access list`));
  node.link.on("change", () => {
    if (!node.link.connected) node.station.forget();
  });
  node.link.hear("status", (payload) => node.station.take(payload));
}

module.exports = function register(RED) {
  function LinegateLine(config) {
    RED.nodes.createNode(this, config);
    this.station = new Station();
    try {
      this.settings = readSettings(config, `linegate-flow-${randomBytes(6).toString("hex")}`);
    } catch (error) {
      if (error.name !== "ValueProblem") throw error;
      this.problem = error.message;
      this.error(error.message);
      return;
    }
    this.link = new Link(this.settings, optionsOf(RED, config, this.credentials || {}));
    watch(this, this.settings);
    this.open = () => this.link.open();
    this.on("close", (done) => {
      this.station.forget();
      this.link.close().then(() => done(), done);
    });
  }
  RED.nodes.registerType("linegate-line", LinegateLine, {
    credentials: { user: { type: "text" }, password: { type: "password" } },
  });
};
