/*
 * Settings of Node-RED for Linegate's flows:  node node_modules/node-red/red.js -u DATA -s settings.js
 *
 * Everything that differs between two sites comes from the environment; there is no secret in this file.
 *
 *   LINEGATE_FLOWS_HOST         the address to listen on (127.0.0.1)
 *   LINEGATE_FLOWS_PORT, PORT   the port of editor and dashboard (1880)
 *   LINEGATE_FLOWS_USERS        a file of the editor's users, one a line: name:bcrypt-hash or name:bcrypt-hash:read
 *                               (`npx node-red admin hash-pw` makes a hash)
 *   NODE_RED_CREDENTIAL_SECRET  encrypts flows_cred.json; without it the file is plain, so keep ${REFERENCES} in it
 *   LINEGATE_FLOWS_LOG          fatal, error, warn, info (the default) or debug
 *
 * Values of variables whose name ends in PASSWORD, TOKEN or SECRET are struck out of the log: some client nodes write
 * their whole endpoint there when a log-in fails.
 *
 * Whoever opens the editor can run programs on this machine. On an address that other machines reach there is an
 * editor only with LINEGATE_FLOWS_USERS; without it the flows and the dashboard run, and the editor is off.
 */
"use strict";

const fs = require("fs");
const { inspect } = require("util");

const LOOPBACK = ["127.0.0.1", "::1", "localhost"];
const LEVELS = ["fatal", "error", "warn", "info", "debug"];
const BCRYPT = /^\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}$/;

const host = process.env.LINEGATE_FLOWS_HOST || "127.0.0.1";

function port() {
    const given = process.env.LINEGATE_FLOWS_PORT || process.env.PORT || "1880";
    if (!/^\d+$/.test(given) || Number(given) < 1 || Number(given) > 65535) {
        throw new Error(`LINEGATE_FLOWS_PORT is ${given}; allowed: 1 to 65535`);
    }
    return Number(given);
}

function level() {
    const given = process.env.LINEGATE_FLOWS_LOG || "info";
    if (!LEVELS.includes(given)) {
        throw new Error(`LINEGATE_FLOWS_LOG is ${given}; allowed: ${LEVELS.join(", ")}`);
    }
    return given;
}

function users(file) {
    const lines = fs.readFileSync(file, "utf8").split("\n").map((line) => line.trim());
    const found = lines.filter((line) => line && !line.startsWith("#")).map((line) => {
        const [username, password, permissions = "*", ...more] = line.split(":");
        if (!username || !BCRYPT.test(password) || !["*", "read"].includes(permissions) || more.length) {
            throw new Error(`LINEGATE_FLOWS_USERS: ${file}: a line is not name:bcrypt-hash or name:bcrypt-hash:read`);
        }
        return { username, password, permissions };
    });
    if (!found.length) {
        throw new Error(`LINEGATE_FLOWS_USERS: ${file} names no user; allowed: one or more lines name:bcrypt-hash`);
    }
    return found;
}

const NAMES = { 10: "fatal", 20: "error", 30: "warn", 40: "info", 50: "debug", 60: "trace" };

function secrets() {
    const named = Object.entries(process.env).filter(([name, value]) => /(PASSWORD|TOKEN|SECRET)$/.test(name) && value);
    return named.map(([, value]) => value).sort((one, other) => other.length - one.length); // the longest first
}

/* Give what writes the log: a line for each entry, with a stack where there is one, and no secret. */
function log() {
    const hidden = secrets();
    return ({ timestamp, level: number, type, name, id, msg }) => {
        const text = typeof msg === "string" ? msg : (msg && (msg.stack || msg.message)) || inspect(msg, { depth: 4 });
        const line = `${new Date(timestamp).toISOString()} [${NAMES[number]}] ${type ? `[${type}:${name || id}] ` : ""}${text}`;
        console.log(hidden.reduce((shown, secret) => shown.replaceAll(secret, "***"), line));
    };
}

const settings = {
    uiHost: host,
    uiPort: port(),
    flowFile: "flows.json",
    flowFilePretty: true,
    credentialSecret: process.env.NODE_RED_CREDENTIAL_SECRET || false,
    telemetry: { enabled: false, updateNotification: false },
    diagnostics: { enabled: true, ui: true },
    runtimeState: { enabled: true, ui: true },
    // The packages are those of package.json: nothing is fetched while the line runs.
    externalModules: {
        autoInstall: false,
        palette: { allowInstall: false, allowUpload: false },
        modules: { allowInstall: false },
    },
    functionExternalModules: false,
    functionTimeout: 5, // seconds: a loop without end in a function ends here
    exportGlobalContextKeys: false,
    // What flows keep (what waits to be forwarded, say) outlives a restart; a crash costs the last second of it. `disk` is
    // for counters that must not run back: written at once.
    contextStorage: {
        default: { module: "localfilesystem", config: { flushInterval: 1 } },
        disk: { module: "localfilesystem", config: { base: "context-disk", flushInterval: 0 } },
    },
    mqttReconnectTime: 3000, // ms
    debugMaxLength: 1000,
    logging: { console: { level: level(), metrics: false, audit: false, handler: log } },
    editorTheme: {
        tours: false,
        page: { title: "Linegate flows" },
        header: { title: "Linegate flows" },
        projects: { enabled: false },
        multiplayer: { enabled: false },
    },
};

if (process.env.LINEGATE_FLOWS_USERS) {
    settings.adminAuth = { type: "credentials", users: users(process.env.LINEGATE_FLOWS_USERS) };
} else if (!LOOPBACK.includes(host)) {
    settings.httpAdminRoot = false;
}

module.exports = settings;
