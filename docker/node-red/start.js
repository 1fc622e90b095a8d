/*
 * Start Node-RED with Linegate's flows, as the container does and as anybody can:  node docker/node-red/start.js
 *
 *   LINEGATE_FLOWS_FOLDER                folder of package.json, settings.js and the flows (flows/ of this repository)
 *   LINEGATE_FLOWS_DATA                  folder that Node-RED writes to (/data)
 *   LINEGATE_FLOWS_FILES                 flow files of that folder, parted by spaces; empty: every *.json that is a list,
 *                                        with those switched off that take a camera's or a PLC's place on the line
 *   LINEGATE_FLOWS_EDITOR_PASSWORD       password of the editor's user `admin`; without it one is made up and logged
 *   LINEGATE_FLOWS_TLS_CERT, ..._KEY     PEM files: editor and dashboard by TLS
 *   NAME_FILE                            a file that holds the value of NAME, for the names below
 *
 * What settings.js and the flows read comes on top. Flows that somebody has changed in the editor are kept over a
 * restart, and over an update of the image; remove flows.json from the data folder to have the image's again.
 */
"use strict";

const crypto = require("crypto");
const fs = require("fs");
const os = require("os");
const path = require("path");

const OURS = /^(LINEGATE|NODE_RED|MES|ALERT|INFLUX)_\w+_FILE$/;
const ACTS = /^(camera|plc)-/; // two that write the same registers, or send the same triggers, stop a line
const PACKAGE = "node-red-contrib-linegate";

function fail(text) {
    console.error(`start.js: ${text}`);
    process.exit(1);
}

/* Put the contents of NAME_FILE into NAME, so that no secret has to stand in a container's settings. */
function takeSecrets(environment) {
    for (const [name, file] of Object.entries(environment).filter(([name, file]) => OURS.test(name) && file)) {
        const plain = name.slice(0, -"_FILE".length);
        if (environment[plain]) {
            fail(`${plain} and ${name} are both set: allowed is one of them`);
        }
        try {
            environment[plain] = fs.readFileSync(file, "utf8").trim();
        } catch (error) {
            fail(`${name} = ${file}: ${error.message}`);
        }
        delete environment[name];
    }
}

/* Write the file of editor's users that settings.js reads; the hash lives as long as the container. */
function makeEditorUser(environment, modules) {
    if (environment.LINEGATE_FLOWS_USERS) {
        return;
    }
    let password = environment.LINEGATE_FLOWS_EDITOR_PASSWORD;
    if (!password) {
        password = crypto.randomBytes(12).toString("hex");
        console.log(`The editor's user is admin, its password until the next start ${password}`);
    }
    const bcrypt = require(path.join(modules, "bcryptjs"));
    const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), "linegate-flows-")), "users");
    fs.writeFileSync(file, `admin:${bcrypt.hashSync(password, 10)}\n`, { mode: 0o600 });
    environment.LINEGATE_FLOWS_USERS = file;
    delete environment.LINEGATE_FLOWS_EDITOR_PASSWORD; // flows and their functions can read the environment
}

/* Give the flow files of a folder: those that are named, or all that are lists of nodes. */
function flowFiles(folder, named) {
    if (named) {
        return named.split(/\s+/).filter(Boolean).map((name) => path.join(folder, name));
    }
    const isFlow = (name) => name.endsWith(".json") && !name.endsWith("_cred.json");
    return fs.readdirSync(folder).filter(isFlow).sort().map((name) => path.join(folder, name))
        .filter((file) => fs.readFileSync(file, "utf8").trimStart().startsWith("["));
}

function digest(file) {
    return crypto.createHash("sha256").update(fs.readFileSync(file)).digest("hex");
}

/* Put the merged flows into the data folder, unless those that lie there were changed in the editor. */
function putFlows(folder, data, named) {
    const { FlowError, load } = require(path.join(folder, "load.js"));
    const out = path.join(data, "flows.json");
    const note = path.join(data, "flows.sha256");
    if (fs.existsSync(out) && !(fs.existsSync(note) && fs.readFileSync(note, "utf8") === digest(out))) {
        console.log(`${out} was changed in the editor, and is kept as it is`);
        return;
    }
    const files = flowFiles(folder, named);
    try {
        const all = [...files, path.join(__dirname, "health.json")];
        const nodes = load(out, all, { off: named ? [] : files.filter((file) => ACTS.test(path.basename(file))) });
        console.log(`${nodes} nodes of ${files.length} flow files`);
    } catch (error) {
        if (!(error instanceof FlowError)) {
            throw error;
        }
        fail(error.message);
    }
    fs.writeFileSync(note, digest(out));
}

/* Let Node-RED find our own nodes, which lie beside the flows; what they need resolves from where they really lie. */
function linkPackage(folder, data) {
    const ours = path.join(folder, PACKAGE);
    const link = path.join(data, "node_modules", PACKAGE);
    fs.rmSync(link, { force: true, recursive: true });
    if (fs.existsSync(ours)) {
        fs.mkdirSync(path.dirname(link), { recursive: true });
        fs.symlinkSync(ours, link);
    }
}

function main() {
    const environment = process.env;
    const folder = path.resolve(environment.LINEGATE_FLOWS_FOLDER || path.join(__dirname, "..", "..", "flows"));
    const data = path.resolve(environment.LINEGATE_FLOWS_DATA || "/data");
    const modules = path.join(folder, "node_modules");
    environment.LINEGATE_FLOWS_FOLDER = folder;
    takeSecrets(environment);
    makeEditorUser(environment, modules);
    putFlows(folder, data, environment.LINEGATE_FLOWS_FILES);
    linkPackage(folder, data);
    const program = path.join(modules, "node-red", "red.js");
    process.argv = [process.argv[0], program, "-u", data, "-s", path.join(__dirname, "settings.js")];
    require(program); // in this process, which gets the container's signals
    delete environment.NODE_RED_CREDENTIAL_SECRET; // settings.js has it; functions could read it here
}

main();
