// Carries out steps with node-opcua-client: node run_steps.js ENDPOINT JSON
// A step is {"write": [[node, type, value], ...]} (ONE Write call), {"await": [node, value]} or {"read": [node, ...]};
// nodes are named from the station on, as "Control.Trigger". Each read gives a line of JSON, node by node.
"use strict";
const { OPCUAClient, AttributeIds, DataType } = require("node-opcua-client");

const nodeId = (name) => `ns=2;s=line1.station1.${name}`;

async function read(session, names) {
  return session.read(names.map((name) => ({ nodeId: nodeId(name), attributeId: AttributeIds.Value })));
}

async function write(session, values) {
  const nodes = values.map(([name, type, value]) => ({
    nodeId: nodeId(name),
    attributeId: AttributeIds.Value,
    value: { value: { dataType: DataType[type], value } },
  }));
  const refused = (await session.write(nodes)).filter((code) => code.name !== "Good");
  if (refused.length) throw new Error(`refused: ${refused.map((code) => code.name)}`);
}

async function awaitValue(session, name, wanted) {
  for (let tries = 0; tries < 400; tries++) {
    const [found] = await read(session, [name]);
    if (found.value.value === wanted) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`${name} did not become ${wanted}`);
}

async function main([endpoint, steps]) {
  const client = OPCUAClient.create({ endpointMustExist: false, connectionStrategy: { maxRetry: 0 } });
  await client.connect(endpoint);
  const session = await client.createSession();
  for (const step of JSON.parse(steps)) {
    if (step.write) await write(session, step.write);
    if (step.await) await awaitValue(session, ...step.await);
    if (step.read) {
      const found = await read(session, step.read);
      console.log(JSON.stringify(Object.fromEntries(step.read.map((name, i) => [name, found[i].value.value]))));
    }
  }
  await session.close();
  await client.disconnect();
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
