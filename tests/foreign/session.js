// One session of node-opcua-client, driven by a JSON command a line: node session.js ENDPOINT
//   {"browse": NODE}                        -> {"children": [{"node", "name", "class"}]}
//   {"read": [[NODE, ATTRIBUTE], ...]}      -> {"values": [{"status", "type", "value", "source"}]}, all in ONE Read
//   {"repeat": [COUNT, [[NODE, ATTRIBUTE], ...]]} -> {"states": [[VALUE, ...], ...]}, each ONE Read that differed from the last
//   {"write": [NODE, TYPE, VALUE]}          -> {"status"}
//   {"call": [OBJECT, METHOD, [[TYPE, VALUE], ...]]} -> {"status", "outputs"}
"use strict";
const readline = require("node:readline");
const { OPCUAClient, AttributeIds, DataType, NodeClass, VariantArrayType } = require("node-opcua-client");

function plain(value) {
  if (value === undefined || value === null) return null;
  if (typeof value === "number" && Number.isNaN(value)) return "NaN";
  if (Array.isArray(value) || ArrayBuffer.isView(value)) return Array.from(value, plain);
  if (value instanceof Date) return value.toISOString();
  if (value.text !== undefined) return value.text;
  if (value.namespace !== undefined) return value.toString();
  if (value.unitId !== undefined) return { unit: value.unitId, symbol: plain(value.displayName), space: value.namespaceUri };
  if (value.name !== undefined && value.namespaceIndex !== undefined) return `${value.namespaceIndex}:${value.name}`;
  return value;
}

const shown = (data) => ({
  status: data.statusCode.name, type: DataType[data.value.dataType], value: plain(data.value.value),
  source: plain(data.sourceTimestamp),
});
const variant = ([type, value]) => ({
  dataType: DataType[type], value,
  arrayType: Array.isArray(value) ? VariantArrayType.Array : VariantArrayType.Scalar,
});

const COMMANDS = {
  async browse(session, node) {
    const found = await session.browse({ nodeId: node, browseDirection: 0, referenceTypeId: "i=33", includeSubtypes: true, resultMask: 63 });
    return {
      children: found.references.map((each) => ({
        node: each.nodeId.toString(), name: plain(each.browseName), class: NodeClass[each.nodeClass],
      })),
    };
  },
  async read(session, wanted) {
    const nodes = wanted.map(([nodeId, attribute]) => ({ nodeId, attributeId: AttributeIds[attribute] }));
    return { values: (await session.read(nodes)).map(shown) };
  },
  async repeat(session, [count, wanted]) {
    const nodes = wanted.map(([nodeId, attribute]) => ({ nodeId, attributeId: AttributeIds[attribute] }));
    const states = [];
    let last = "";
    for (let turn = 0; turn < count; turn++) {
      const state = (await session.read(nodes)).map((data) => plain(data.value.value));
      if (JSON.stringify(state) === last) continue;
      last = JSON.stringify(state);
      states.push(state);
    }
    return { states };
  },
  async write(session, [nodeId, type, value]) {
    const status = await session.write({ nodeId, attributeId: AttributeIds.Value, value: { value: variant([type, value]) } });
    return { status: status.name };
  },
  async call(session, [objectId, methodId, inputs]) {
    const called = await session.call({ objectId, methodId, inputArguments: inputs.map(variant) });
    return { status: called.statusCode.name, outputs: (called.outputArguments || []).map((each) => plain(each.value)) };
  },
};

async function main([endpoint]) {
  const client = OPCUAClient.create({ endpointMustExist: false, connectionStrategy: { maxRetry: 0 } });
  await client.connect(endpoint);
  const session = await client.createSession();
  console.log(JSON.stringify({ connected: true }));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [[name, argument]] = Object.entries(JSON.parse(line));
    console.log(JSON.stringify(await COMMANDS[name](session, argument)));
  }
  await session.close();
  await client.disconnect();
}

main(process.argv.slice(2)).then(() => process.exit(0), (error) => {
  console.error(error.message);
  process.exit(1);
});
