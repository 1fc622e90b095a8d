"use strict";

// Before packing, and at `npm ci` beside it: the flows that Linegate ships become examples of this package, so that
// Import > Examples shows them.

const fs = require("node:fs");
const path = require("node:path");

/** @returns {boolean} whether a JSON document is a flow: a list of nodes, one of them a tab */
function isFlow(document) {
  return Array.isArray(document) && document.every((node) => node && node.id && node.type) && document.some(({ type }) => type === "tab");
}

/**
 * Copy each flow of a folder; what an earlier copy left behind goes.
 * @param {string} from a folder with flow files beside other JSON files
 * @param {string} to the folder for them
 * @returns {string[]} the names of the files
 */
function copyFlows(from, to) {
  const names = fs.readdirSync(from).filter((name) => name.endsWith(".json")).sort();
  const flows = names.filter((name) => isFlow(JSON.parse(fs.readFileSync(path.join(from, name), "utf8"))));
  fs.rmSync(to, { recursive: true, force: true });
  if (flows.length) fs.mkdirSync(to, { recursive: true });
  for (const name of flows) fs.copyFileSync(path.join(from, name), path.join(to, name));
  return flows;
}

if (require.main === module) {
  const home = path.dirname(__dirname);
  const flows = copyFlows(path.dirname(home), path.join(home, "examples", "shipped"));
  process.stderr.write(`examples/shipped: ${flows.length} flows\n`);
}

module.exports = { copyFlows };
