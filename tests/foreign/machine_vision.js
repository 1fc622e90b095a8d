// Drives a VisionSystem (OPC 40100-1) with node-opcua-client: node machine_vision.js ENDPOINT SYSTEM PARTID
// It decodes the model's structures by what the server tells of them, and writes one JSON object a line.
"use strict";
const {
  OPCUAClient, AttributeIds, DataType, ClientSubscription, MonitoringMode, TimestampsToReturn, constructEventFilter, Variant, resolveNodeId,
} = require("node-opcua-client");

const MODEL = "http://opcfoundation.org/UA/MachineVision";
const FIELDS = ["EventType", "ResultId", "JobId", "PartId", "ResultState", "ResultContent", "ExternalRecipeId"];
const say = (what) => console.log(JSON.stringify(what));

async function main([endpoint, system, partId]) {
  const client = OPCUAClient.create({ endpointMustExist: false, connectionStrategy: { maxRetry: 0 } });
  await client.connect(endpoint);
  const session = await client.createSession();
  const space = (await session.readNamespaceArray()).indexOf(MODEL);
  const make = async (type, value) => new Variant({
    dataType: DataType.ExtensionObject, value: await session.constructExtensionObject(resolveNodeId(`ns=${space};i=${type}`), value),
  });
  const none = new Variant({ dataType: DataType.ExtensionObject, value: null });
  const int32 = (value) => new Variant({ dataType: DataType.Int32, value });
  const text = (value) => new Variant({ dataType: DataType.String, value });
  const call = async (path, ...inputArguments) => {
    const objectId = `${system}.${path.slice(0, path.lastIndexOf("."))}`;
    const answer = await session.call({ objectId, methodId: `${system}.${path}`, inputArguments });
    return { status: answer.statusCode.name, values: (answer.outputArguments || []).map((each) => each.value) };
  };
  const state = async (machine) => {
    const read = await session.read({ nodeId: `${system}.${machine}.CurrentState`, attributeId: AttributeIds.Value });
    return read.value.value ? read.value.value.text : read.statusCode.name;
  };
  const automatic = "VisionStateMachine.AutomaticModeStateMachine";

  const found = await session.browse("i=85");
  say({ found: found.references.map((each) => each.displayName.text).filter((each) => each.startsWith("VisionSystem")) });
  say({ states: [await state("VisionStateMachine"), await state(automatic)] });

  const subscription = ClientSubscription.create(session, {
    requestedPublishingInterval: 10, requestedLifetimeCount: 1000, requestedMaxKeepAliveCount: 10, publishingEnabled: true,
  });
  await new Promise((resolve) => subscription.once("started", resolve));
  const item = await subscription.monitor(
    { nodeId: system, attributeId: AttributeIds.EventNotifier },
    { queueSize: 100, discardOldest: true,
      filter: constructEventFilter(FIELDS.map((each) => (each === "EventType" ? each : `${space}:${each}`))) },
    TimestampsToReturn.Both, MonitoringMode.Reporting,
  );
  const result = new Promise((resolve) => {
    item.on("changed", (fields) => {
      const event = Object.fromEntries(FIELDS.map((name, place) => [name, fields[place].value]));
      if (event.EventType.toString() === `ns=${space};i=1024` && event.PartId && event.PartId.id === partId) resolve(event);
    });
  });

  say({ stop: (await call(`${automatic}.Stop`, int32(0), text("by hand"))).values, state: await state(automatic) });
  const [job, error] = (await call(
    `${automatic}.StartSingleJob`, await make(3015, { id: "M-1" }), await make(3004, { id: partId }),
    await make(3002, { id: "brightness" }), none,
    new Variant({ dataType: DataType.Variant, arrayType: 1, value: [] }),
  )).values;
  say({ job: job.id, error });
  const event = await result;
  const recipe = event.ExternalRecipeId;
  say({
    result: event.ResultId.id, job: event.JobId.id, state: event.ResultState, recipe: recipe.id,
    hash: recipe.hash.toString("hex"), verdict: JSON.parse(event.ResultContent[0].value).verdict,
  });
  const given = (await call("ResultManagement.GetResultById", await make(3021, { id: event.ResultId.id }), int32(0))).values;
  say({
    result: given[1].resultId.id, part: given[1].partId.id, meas: given[1].measId.id, error: given[2],
    verdict: JSON.parse(given[1].resultContent[0].value).verdict,
  });
  const wrong = await call("RecipeManagement.PrepareRecipe", await make(3002, { id: "nonsense" }), none);
  say({ status: wrong.status, completed: wrong.values[1], error: wrong.values[2] });
  const simulated = await call(`${automatic}.SimulationMode`, new Variant({ dataType: DataType.Boolean, value: true }), int32(0), text(""));
  say({ status: simulated.status });
  await subscription.terminate();
  await session.close();
  await client.disconnect();
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error.stack);
  process.exit(1);
});
