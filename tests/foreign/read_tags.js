// Reads nodes once with node-opcua-client: node read_tags.js ENDPOINT NODEID...
"use strict";
const { OPCUAClient, AttributeIds } = require("node-opcua-client");

async function main([endpoint, ...nodeIds]) {
  const client = OPCUAClient.create({ endpointMustExist: false, connectionStrategy: { maxRetry: 0 } });
  await client.connect(endpoint);
  const session = await client.createSession();
  const read = await session.read(nodeIds.map((nodeId) => ({ nodeId, attributeId: AttributeIds.Value })));
  read.forEach((data, place) => {
    console.log(JSON.stringify({ node: nodeIds[place], status: data.statusCode.name, value: data.value.value }));
  });
  await session.close();
  await client.disconnect();
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
