// Follows Result.Sequence by subscription and asks GetResult for what it was not told of:
//   node follow_results.js ENDPOINT STATION FIRST LAST INTERVAL_MS QUEUE
// Writes {"listening": true}, then {"sequence", "by": "told" | "fetched"} for each, and ends once it has LAST.
"use strict";
const { OPCUAClient, AttributeIds, ClientMonitoredItem, DataType, TimestampsToReturn } = require("node-opcua-client");

async function main([endpoint, station, first, last, interval, queue]) {
  const client = OPCUAClient.create({ endpointMustExist: false, connectionStrategy: { maxRetry: 0 } });
  await client.connect(endpoint);
  const session = await client.createSession();
  const subscription = await session.createSubscription2({
    requestedPublishingInterval: Number(interval), requestedLifetimeCount: 6000, requestedMaxKeepAliveCount: 100,
    maxNotificationsPerPublish: 0, publishingEnabled: true, priority: 1,
  });
  const told = [];
  let wake = () => {};
  const item = ClientMonitoredItem.create(
    subscription, { nodeId: `${station}.Result.Sequence`, attributeId: AttributeIds.Value },
    { samplingInterval: 0, discardOldest: true, queueSize: Number(queue) }, TimestampsToReturn.Both,
  );
  item.on("changed", (data) => {
    if (data.statusCode.name === "Good") told.push(data.value.value);
    wake();
  });
  await new Promise((resolve, reject) => {
    item.on("initialized", resolve);
    item.on("err", (message) => reject(new Error(message)));
  });
  console.log(JSON.stringify({ listening: true }));
  let expected = Number(first);
  while (expected <= Number(last)) {
    if (!told.length) {
      await new Promise((resolve) => { wake = resolve; });
      continue;
    }
    const sequence = told.shift();
    if (sequence < Number(first)) continue; // of before the test
    for (; expected < sequence; expected++) {
      const answer = await session.call({
        objectId: station, methodId: `${station}.GetResult`,
        inputArguments: [{ dataType: DataType.UInt32, value: expected }],
      });
      if (answer.statusCode.name !== "Good") throw new Error(`GetResult(${expected}): ${answer.statusCode.name}`);
      console.log(JSON.stringify({ sequence: JSON.parse(answer.outputArguments[0].value).sequence, by: "fetched" }));
    }
    console.log(JSON.stringify({ sequence, by: "told" }));
    expected = sequence + 1;
  }
  await subscription.terminate();
  await session.close();
  await client.disconnect();
}

main(process.argv.slice(2)).then(() => process.exit(0), (error) => {
  console.error(error.message);
  process.exit(1);
});
