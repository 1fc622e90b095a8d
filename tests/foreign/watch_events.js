// Tells of events with node-opcua-client until its standard input ends:
//   node watch_events.js ENDPOINT NOTIFIER TYPE|- QUEUE FIELD...
// Writes {"listening": true, ...} first, then each event as {FIELD: value, ...}. On the line `refresh` it calls ConditionRefresh.
"use strict";
const readline = require("node:readline");
const {
  OPCUAClient, AttributeIds, ClientMonitoredItem, TimestampsToReturn, constructEventFilter, ofType, resolveNodeId,
  coerceNodeId, Variant, DataType,
} = require("node-opcua-client");

function plain(variant) {
  const value = variant.value;
  if (Buffer.isBuffer(value)) return value.toString("hex");
  if (value && value.text !== undefined) return value.text;
  if (value && value.namespace !== undefined) return value.toString();
  return value === undefined ? null : value;
}

async function main([endpoint, notifier, type, queue, ...fields]) {
  const client = OPCUAClient.create({ endpointMustExist: false, connectionStrategy: { maxRetry: 0 } });
  await client.connect(endpoint);
  const session = await client.createSession();
  const subscription = await session.createSubscription2({
    requestedPublishingInterval: 10, requestedLifetimeCount: 6000, requestedMaxKeepAliveCount: 100,
    maxNotificationsPerPublish: 0, publishingEnabled: true, priority: 1,
  });
  const filter = constructEventFilter(fields, type === "-" ? undefined : ofType(coerceNodeId(type)));
  const item = ClientMonitoredItem.create(
    subscription, { nodeId: coerceNodeId(notifier), attributeId: AttributeIds.EventNotifier },
    { samplingInterval: 0, discardOldest: true, queueSize: Number(queue), filter }, TimestampsToReturn.Both,
  );
  item.on("changed", (values) => {
    console.log(JSON.stringify(Object.fromEntries(fields.map((field, place) => [field, plain(values[place])]))));
  });
  await new Promise((resolve, reject) => {
    item.on("initialized", resolve);
    item.on("err", (message) => reject(new Error(message)));
  });
  console.log(JSON.stringify({ listening: true, queue: item.result.revisedQueueSize }));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    if (line !== "refresh") continue;
    const called = await session.call({
      objectId: resolveNodeId("i=2782"), methodId: resolveNodeId("i=3875"),
      inputArguments: [new Variant({ dataType: DataType.UInt32, value: subscription.subscriptionId })],
    });
    console.log(JSON.stringify({ refreshed: called.statusCode.name }));
  }
  await subscription.terminate();
  await session.close();
  await client.disconnect();
}

main(process.argv.slice(2)).then(() => process.exit(0), (error) => {
  console.error(error.message);
  process.exit(1);
});
