/*
 * Merge flow files into the one that Node-RED reads:  node flows/load.js OUT.json FLOW.json...
 *
 * Nodes that several files share (configuration nodes, subflows, whatever has the same id) are taken once; if they
 * differ, that is an error, and nothing is written. Node-RED ignores credentials in a flow file: those that stand in
 * a node's `credentials`, or in FLOW_cred.json beside FLOW.json, go into OUT_cred.json. Write references such as
 * ${LINEGATE_MQTT_PASSWORD} there, never a secret. By the environment, for the flows' brokers:
 *
 *   LINEGATE_MQTT_TLS=true   they are reached by TLS, and their certificates are verified
 *   LINEGATE_MQTT_USER       one without credentials logs in as that user, with LINEGATE_MQTT_PASSWORD
 *
 * A variable that is set in the environment, be it empty, goes before the flows' global variable of that name.
 */
"use strict";

const fs = require("fs");
const { isDeepStrictEqual } = require("util");

const LOG_IN = { user: "${LINEGATE_MQTT_USER}", password: "${LINEGATE_MQTT_PASSWORD}" };

class FlowError extends Error {}

/* Read a file of JSON; the error names it. */
function read(file) {
    try {
        return JSON.parse(fs.readFileSync(file, "utf8"));
    } catch (error) {
        throw new FlowError(`${file}: ${error.message}`);
    }
}

/* Give the name of a flow file's credentials, as Node-RED has it: flows.json and flows_cred.json. */
function credentialsFile(file) {
    return `${file.replace(/\.json$/, "")}_cred.json`;
}

/* Give the nodes of one flow file, and the credentials that go with them. */
function readFlow(file) {
    const document = read(file);
    const nodes = Array.isArray(document) ? document : document && document.flows; // as exported, or by the admin API
    if (!Array.isArray(nodes)) {
        throw new FlowError(`${file}: it holds no list of nodes`);
    }
    const beside = credentialsFile(file);
    const credentials = fs.existsSync(beside) ? read(beside) : {};
    const plain = nodes.map((node) => {
        if (!node || typeof node.id !== "string" || typeof node.type !== "string") {
            throw new FlowError(`${file}: ${JSON.stringify(node)} is no node: it needs an id and a type`);
        }
        const { credentials: own, ...rest } = node;
        if (own) {
            credentials[node.id] = { ...credentials[node.id], ...own };
        }
        return rest;
    });
    return { nodes: plain, credentials };
}

/* Merge flow files; gives { nodes, credentials }. The tabs of the files in `off` are there, and switched off. */
function merge(files, off = []) {
    const found = new Map();
    const credentials = new Map();
    for (const file of files) {
        const flow = readFlow(file);
        const seen = new Set();
        for (const node of flow.nodes) {
            const other = found.get(node.id);
            if (seen.has(node.id)) {
                throw new FlowError(`${file}: the id ${node.id} is there twice`);
            }
            seen.add(node.id);
            if (other && !isDeepStrictEqual(other.node, node)) {
                throw new FlowError(`${other.file} and ${file} have a different ${node.type} with the id ${node.id}`);
            }
            if (!other) {
                found.set(node.id, { file, node });
            }
        }
        for (const [id, own] of Object.entries(flow.credentials)) {
            const other = credentials.get(id);
            if (other && !isDeepStrictEqual(other.own, own)) {
                throw new FlowError(`${other.file} and ${file} have different credentials for the id ${id}`);
            }
            credentials.set(id, { file, own });
        }
    }
    const isOff = ({ file, node }) => node.type === "tab" && off.includes(file);
    return {
        nodes: [...found.values()].map((each) => (isOff(each) ? { ...each.node, disabled: true } : each.node)),
        credentials: Object.fromEntries([...credentials].map(([id, { own }]) => [id, own])),
    };
}

/*
 * Let a flow's broker be reached by TLS, and its certificate be verified. Whether one uses TLS is a boolean in
 * Node-RED, and ${REFERENCES} are texts. A broker with TLS settings of its own keeps them.
 */
function withTls(node) {
    return node.type === "mqtt-broker" && !node.usetls ? { ...node, usetls: true, verifyservercert: true } : node;
}

/* Leave out the global variables that the process has in its environment: in Node-RED a flow's own would win. */
function withoutThose(node, environment) {
    const isOurs = node.type === "global-config" && Array.isArray(node.env);
    return isOurs ? { ...node, env: node.env.filter(({ name }) => environment[name] === undefined) } : node;
}

/* Let the brokers log in that have no credentials of their own. */
function logIns(nodes, credentials) {
    const without = nodes.filter((node) => node.type === "mqtt-broker" && !credentials[node.id]);
    return Object.fromEntries(without.map((node) => [node.id, { ...LOG_IN }]));
}

/* Merge flow files into `out`, with the credentials beside it; gives how many nodes there are. */
function load(out, files, { environment = process.env, off = [] } = {}) {
    const merged = merge(files, off);
    const found = merged.nodes.map((node) => withoutThose(node, environment));
    const nodes = environment.LINEGATE_MQTT_TLS === "true" ? found.map(withTls) : found;
    const added = environment.LINEGATE_MQTT_USER ? logIns(nodes, merged.credentials) : {};
    const credentials = { ...merged.credentials, ...added };
    fs.writeFileSync(out, `${JSON.stringify(nodes, null, 4)}\n`);
    if (Object.keys(credentials).length) {
        fs.writeFileSync(credentialsFile(out), `${JSON.stringify(credentials, null, 4)}\n`, { mode: 0o600 });
    } else {
        fs.rmSync(credentialsFile(out), { force: true });
    }
    return nodes.length;
}

module.exports = { FlowError, credentialsFile, load, merge };

if (require.main === module) {
    const [out, ...files] = process.argv.slice(2);
    if (!files.length) {
        console.error("usage: node flows/load.js OUT.json FLOW.json...");
        process.exit(2);
    }
    try {
        console.log(`${out}: ${load(out, files)} nodes of ${files.length} files`);
    } catch (error) {
        if (!(error instanceof FlowError)) {
            throw error;
        }
        console.error(`load.js: ${error.message}`);
        process.exit(1);
    }
}
