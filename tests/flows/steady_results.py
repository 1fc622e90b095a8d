"""The servers of the bridge for one station, with results at a steady pace and nothing to judge: python -m ... MODBUS OPCUA.

Reads lines `COUNT PER_S FIRST` from standard input, publishes that many results from that sequence on, then writes `done`.
"""

from __future__ import annotations

import asyncio
import sys
import time

from bridge.domain.report import encode, verdict_document
from bridge.domain.verdict import VerdictCode
from bridge.outputs.modbus.requests import ModbusStations
from bridge.outputs.modbus.server import ModbusServer
from bridge.outputs.opcua.server import OpcUaServer
from bridge.outputs.plc.panel import PlcPanel
from bridge.ports import Outcome
from tests.outputs.samples import ORDERED, result, status

U32 = 2**32


async def beat(panel: PlcPanel) -> None:
    """Let the station's heartbeat run."""
    number = 0
    while True:
        number += 1
        panel.show(status(heartbeat=number % 65536), now_ns=time.monotonic_ns())
        await asyncio.sleep(0.5)


async def publish(panel: PlcPanel, *, count: int, per_s: float, first: int) -> None:
    """Publish results by a clock that a late one doesn't shift."""
    begun = asyncio.get_running_loop().time()
    for number in range(count):
        await asyncio.sleep(max(0.0, begun + number / per_s - asyncio.get_running_loop().time()))
        code = VerdictCode.FAIL if number % 3 else VerdictCode.PASS
        judged = result((first + number) % U32, code=code, order=ORDERED, decided_ns=time.monotonic_ns())
        panel.publish(Outcome(result=judged, document=encode(verdict_document(judged))))


async def main(modbus_port: int, opcua_port: int) -> None:
    panel = PlcPanel(station="station1", post=lambda _: None, open_lead_ms=40.0)
    modbus = ModbusServer(
        ModbusStations([panel], clock_ns=time.monotonic_ns, mirror=True), host="127.0.0.1", port=modbus_port
    )
    opcua = OpcUaServer(
        [panel],
        line="line1",
        endpoint=f"opc.tcp://127.0.0.1:{opcua_port}/linegate/",
        clock_ns=time.monotonic_ns,
        anonymous=True,
    )
    await modbus.start()
    await opcua.start()
    beating = asyncio.create_task(beat(panel))
    print("open", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        count, per_s, first = line.split()
        await publish(panel, count=int(count), per_s=float(per_s), first=int(first))
        print("done", flush=True)
    beating.cancel()
    await opcua.stop()
    await modbus.stop()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
