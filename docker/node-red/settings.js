/* flows/settings.js, with what a container adds: editor and dashboard by TLS where there is a certificate. */
"use strict";

const fs = require("fs");
const path = require("path");

const settings = require(path.join(process.env.LINEGATE_FLOWS_FOLDER, "settings.js"));

const { LINEGATE_FLOWS_TLS_CERT: cert, LINEGATE_FLOWS_TLS_KEY: key } = process.env;
if (cert) {
    settings.https = { cert: fs.readFileSync(cert), key: fs.readFileSync(key), minVersion: "TLSv1.2" };
}

module.exports = settings;
