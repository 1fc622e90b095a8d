// Connects with node-opcua-client, time after time, does what it is told, and writes one JSON line for each step, refusals
// by their name: node secured.js PKI '[{"endpoint", "policy", "mode", "user", "password", "steps": [["read", ID],
// ["write", ID, TYPE, VALUE], ["call", OBJECT, METHOD, TYPE, VALUE], ["register", ID...], ["subscribe", ID], ["browse", ID]]}]'
// The client makes a certificate of its own below the folder PKI.
"use strict";
const opcua = require("node-opcua-client");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");

function tell(step, status, value) {
  console.log(JSON.stringify({ step, status, value }));
}

const steps = {
  async read(session, nodeId) {
    const read = await session.read({ nodeId, attributeId: opcua.AttributeIds.Value });
    return [read.statusCode.name, read.value.value];
  },
  async write(session, nodeId, dataType, value) {
    const status = await session.write({
      nodeId,
      attributeId: opcua.AttributeIds.Value,
      value: { value: { dataType: opcua.DataType[dataType], value } },
    });
    return [status.name, null];
  },
  async call(session, objectId, methodId, dataType, value) {
    const inputArguments = dataType ? [{ dataType: opcua.DataType[dataType], value }] : [];
    const called = await session.call({ objectId, methodId, inputArguments });
    return [called.statusCode.name, (called.outputArguments || []).map((each) => each.value)];
  },
  async register(session, ...nodeIds) {
    const registered = await session.registerNodes(nodeIds);
    const read = await session.read(registered.map((nodeId) => ({ nodeId, attributeId: opcua.AttributeIds.Value })));
    await session.unregisterNodes(registered);
    return [read[0].statusCode.name, read.map((each) => each.value.value)];
  },
  async browse(session, nodeId) {
    const found = await session.browse(nodeId);
    return [found.statusCode.name, found.references.map((each) => each.browseName.name)];
  },
  async subscribe(session, nodeId) {
    const subscription = await session.createSubscription2({
      requestedPublishingInterval: 20,
      requestedLifetimeCount: 100,
      requestedMaxKeepAliveCount: 10,
      maxNotificationsPerPublish: 100,
      publishingEnabled: true,
      priority: 1,
    });
    const item = await subscription.monitor(
      { nodeId, attributeId: opcua.AttributeIds.Value },
      { samplingInterval: 10, discardOldest: true, queueSize: 10 },
      opcua.TimestampsToReturn.Both,
    );
    const value = await new Promise((resolve) => item.once("changed", resolve));
    await subscription.terminate();
    return [value.statusCode.name, value.value.value];
  },
};

async function connect(wanted, clientCertificateManager) {
  const client = opcua.OPCUAClient.create({
    applicationName: "linegate-foreign-client",
    applicationUri: "urn:linegate:foreign-client",
    clientCertificateManager,
    certificateFile: `${clientCertificateManager.rootDir}/client.pem`,
    securityPolicy: opcua.SecurityPolicy[wanted.policy],
    securityMode: opcua.MessageSecurityMode[wanted.mode],
    endpointMustExist: false,
    connectionStrategy: { maxRetry: 0 },
    requestedSessionTimeout: 20000,
  });
  await client.createDefaultCertificate();
  const userIdentity =
    wanted.user === null
      ? { type: opcua.UserTokenType.Anonymous }
      : { type: opcua.UserTokenType.UserName, userName: wanted.user, password: wanted.password };
  let session;
  try {
    await client.connect(wanted.endpoint);
    session = await client.createSession(userIdentity);
    tell("connect", "Good");
  } catch (error) {
    tell("connect", error.message);
  }
  for (const [name, ...given] of session ? wanted.steps : []) {
    const [status, value] = await steps[name](session, ...given);
    tell(name, status, value);
  }
  if (session) {
    await session.close();
  }
  await client.disconnect();
}

async function main(rootFolder, connections) {
  const certificates = new OPCUACertificateManager({ rootFolder, automaticallyAcceptUnknownCertificate: true });
  await certificates.initialize();
  for (const each of connections) {
    await connect(each, certificates);
  }
}

main(process.argv[2], JSON.parse(process.argv[3])).then(
  () => process.exit(0),
  (error) => {
    console.error(error.stack);
    process.exit(1);
  },
);
