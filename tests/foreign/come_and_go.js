// Connects, reads one node and disconnects, many times: node come_and_go.js ENDPOINT TIMES NODE
// Writes {"done", "status"} every 20 times; a status that is not Good ends it.
"use strict";
const { OPCUAClient, AttributeIds } = require("node-opcua-client");

async function main([endpoint, times, nodeId]) {
  for (let done = 1; done <= Number(times); done++) {
    const client = OPCUAClient.create({ endpointMustExist: false, connectionStrategy: { maxRetry: 0 } });
    await client.connect(endpoint);
    const session = await client.createSession();
    const data = await session.read({ nodeId, attributeId: AttributeIds.Value });
    await session.close();
    await client.disconnect();
    if (done % 20 === 0 || data.statusCode.name !== "Good") {
      console.log(JSON.stringify({ done, status: data.statusCode.name }));
    }
  }
}

main(process.argv.slice(2)).then(() => process.exit(0), (error) => {
  console.error(error.message);
  process.exit(1);
});
