"""The floor: the most direct script from an MQTT trigger to a Modbus block and ten OPC UA tags.

A paho callback decodes the picture, runs onnxruntime with its defaults and hands the result to the loop that serves
pymodbus and asyncua. No recipe, deadline, gate, record, reconnection or check: what a good engineer writes in an
afternoon. It takes the same bundle and pictures as the bridge, in the message or as JSON with a path below `--images`.
It stands in input registers 2-3 (sequence) and 4 (verdict), and in nodes `floor.Result.*`, whose SourceTimestamp is the
moment of the verdict. For each number N on stdin it prints what each step took on average over the last N parts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import struct
import sys
import time
import tomllib
from datetime import UTC
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from asyncua import ua
from asyncua.common.node import Node
from asyncua.server.server import Server
from numpy.typing import NDArray
from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

TAGS: dict[str, Any] = {
    "PartId": "",
    "Verdict": 0,
    "Disposition": 0,
    "Label": "",
    "LabelId": 0,
    "Score": 0.0,
    "Reason": "",
    "LatencyMs": 0.0,
    "Written": 0,
    "Sequence": 0,
}


class Judge:
    """Picture bytes in, scores out."""

    def __init__(self, bundle: Path, *, threads: int) -> None:
        manifest = tomllib.loads((bundle / "bundle.toml").read_text(encoding="utf-8"))
        self.labels: list[str] = manifest["labels"]
        self.limits = {label: manifest.get("thresholds", {}).get(label, {}).get("reject", 0.5) for label in self.labels}
        self.good: list[str] = manifest.get("good_labels", [])
        defaults = {"colour": "RGB", "layout": "NHWC", "dtype": "uint8", "interpolation": "linear"}
        self._input: dict[str, Any] = defaults | manifest["input"]
        self._scores: str = manifest["output"]["scores"]
        options = ort.SessionOptions()
        if threads:
            options.intra_op_num_threads = threads
        self._session = ort.InferenceSession(bundle / "model.onnx", options, providers=["CPUExecutionProvider"])
        self._spent: list[tuple[float, float, float]] = []
        self.totals: list[float] = []

    def __call__(self, data: bytes) -> NDArray[np.float32]:
        """Give the scores of one picture, in the order of the labels."""
        start = time.perf_counter()
        image: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        decoded = time.perf_counter()
        tensor = self._prepare(image)
        ready = time.perf_counter()
        # all outputs, as a direct script asks for
        names = [output.name for output in self._session.get_outputs()]
        outputs = dict(zip(names, self._session.run(None, {self._input["name"]: tensor}), strict=True))
        scores: NDArray[np.float32] = outputs[self._scores][0]
        self._spent.append((decoded - start, ready - decoded, time.perf_counter() - ready))
        return scores

    def means_ms(self, last: int) -> dict[str, float]:
        """Give what each step took on average over the `last` pictures, and the whole from message to verdict."""
        recent = [(*steps, total) for steps, total in zip(self._spent[-last:], self.totals[-last:], strict=True)]
        means = [sum(column) / max(len(recent), 1) * 1e3 for column in zip(*recent, strict=True)]
        return dict(zip(("decode", "preprocess", "inference", "total"), means, strict=False))

    def _prepare(self, image: Any) -> NDArray[Any]:
        spec = self._input
        if spec["colour"] == "RGB":
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        elif spec["colour"] == "GREY":
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None]
        method = cv2.INTER_AREA if spec["interpolation"] == "area" else cv2.INTER_LINEAR
        image = cv2.resize(image, (spec["width"], spec["height"]), interpolation=method)
        tensor = image.reshape(1, spec["height"], spec["width"], -1)
        if spec["dtype"] == "float32":
            channels = tensor.shape[-1]
            mean, std = spec.get("mean") or [0.0] * channels, spec.get("std") or [1.0] * channels
            tensor = ((tensor - np.array(mean)) / np.array(std)).astype(np.float32)
        return np.ascontiguousarray(tensor.transpose(0, 3, 1, 2)) if spec["layout"] == "NCHW" else tensor


class Outputs:
    """One Modbus block and ten tags."""

    def __init__(self) -> None:
        self.modbus: ModbusTcpServer
        self.opcua = Server()
        self._nodes: dict[str, Node] = {}

    async def start(self, *, modbus_port: int, opcua_port: int) -> None:
        """Open both servers."""
        tables = tuple([SimData(0, count=125, values=0, datatype=DataType.REGISTERS)] for _ in range(4))
        bits = [SimData(0, count=16, values=0, datatype=DataType.BITS)]
        device = SimDevice(1, simdata=(bits, bits, tables[2], tables[3]))
        self.modbus = ModbusTcpServer(device, address=("127.0.0.1", modbus_port))
        await self.modbus.serve_forever(background=True)
        await self.opcua.init()
        self.opcua.set_endpoint(f"opc.tcp://127.0.0.1:{opcua_port}/floor/")
        self.opcua.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        index = await self.opcua.register_namespace("urn:floor")
        folder = await self.opcua.nodes.objects.add_object(
            ua.NodeId.from_string(f"ns={index};s=floor.Result"), "Result"
        )
        for name, value in TAGS.items():
            node_id = ua.NodeId.from_string(f"ns={index};s=floor.Result.{name}")
            self._nodes[name] = await folder.add_variable(node_id, name, value)
        await self.opcua.start()

    async def write(self, values: dict[str, Any], decided: ua.DateTime) -> None:
        """Show one result: the block first, then the tags."""
        sequence, score = values["Sequence"], round(values["Score"] * 10000)
        block = [*struct.unpack(">2H", struct.pack(">I", sequence)), values["Verdict"], values["Disposition"]]
        await self.modbus.async_setValues(1, 4, 2, [*block, values["LabelId"], score])
        for name, node in self._nodes.items():
            value = values[name]
            kind = {str: ua.VariantType.String, float: ua.VariantType.Double, int: ua.VariantType.Int64}[type(value)]
            now = ua.DateTime.now(UTC)
            await node.write_value(ua.DataValue(ua.Variant(value, kind), SourceTimestamp=decided, ServerTimestamp=now))


def result_of(judge: Judge, data: bytes, *, sequence: int, part_id: str) -> dict[str, Any]:
    """Judge one picture and give the values of the ten tags."""
    start = time.perf_counter()
    scores = judge(data)
    defects = [index for index, label in enumerate(judge.labels) if label not in judge.good]
    worst = max(defects, key=lambda index: float(scores[index]))
    label, score = judge.labels[worst], float(scores[worst])
    bad = score >= judge.limits[label]
    latency_ms = (time.perf_counter() - start) * 1e3
    values = (part_id, 2 if bad else 1, 2 if bad else 1, label, worst + 1, score, f"{score:.2f}", latency_ms)
    return dict(zip(TAGS, (*values, sequence, sequence), strict=True))


def read_trigger(message: MQTTMessage, images: Path) -> tuple[int, str, bytes]:
    """Give sequence, part id and picture of a raw trigger, or of a JSON one that names a file below `images`."""
    if message.payload.startswith(b"{"):
        trigger = json.loads(message.payload)
        return trigger["sequence"], trigger["part_id"], (images / trigger["image"]["path"]).read_bytes()
    fields = dict(message.properties.UserProperty)  # type: ignore[union-attr]
    return int(fields["sequence"]), fields["part_id"], bytes(message.payload)


async def serve(options: argparse.Namespace) -> None:
    """Serve until stdin closes."""
    judge, outputs, loop = Judge(options.bundle, threads=options.threads), Outputs(), asyncio.get_running_loop()
    await outputs.start(modbus_port=options.modbus_port, opcua_port=options.opcua_port)

    def on_message(client: Client, _userdata: object, message: MQTTMessage) -> None:
        start = time.perf_counter()
        sequence, part_id, picture = read_trigger(message, options.images)
        values = result_of(judge, picture, sequence=sequence, part_id=part_id)
        judge.totals.append(time.perf_counter() - start)
        asyncio.run_coroutine_threadsafe(outputs.write(values, ua.DateTime.now(UTC).replace(tzinfo=None)), loop)

    client = Client(CallbackAPIVersion.VERSION2, client_id=options.name, protocol=MQTTv5)
    client.on_connect = lambda client, *_: client.subscribe(f"{options.name}/trigger", qos=1)
    client.on_message = on_message
    client.connect("127.0.0.1", options.broker_port)
    client.loop_start()
    print("ready", flush=True)
    while last := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(judge.means_ms(int(last))), flush=True)
    client.disconnect()
    client.loop_stop()
    await outputs.opcua.stop()
    await outputs.modbus.shutdown()  # type: ignore[no-untyped-call]


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="The most direct script from a trigger to registers and tags.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--images", type=Path, default=Path(), help="folder of the pictures that triggers name")
    parser.add_argument("--name", default="floor", help="first level of its topic")
    parser.add_argument("--broker-port", type=int, required=True)
    parser.add_argument("--modbus-port", type=int, required=True)
    parser.add_argument("--opcua-port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=0, help="onnxruntime's threads, 0 = its own default")
    options = parser.parse_args()
    logging.getLogger("asyncua").setLevel(logging.ERROR)
    asyncio.run(serve(options))


if __name__ == "__main__":
    main()
