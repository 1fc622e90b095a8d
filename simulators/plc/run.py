"""The PLC in real time: `python -P -m simulators.plc.run`.

One loop, first in line for the processor where that is allowed, holds the scan and both Modbus connections; the OPC UA
client is a child. Decisions, firings and results go to stdout as lines of JSON, and all of it to `--log FILE` at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from simulators.line.geometry import add_geometry_options, geometry_from
from simulators.plc.core import Plc
from simulators.plc.cycle import BridgeCycle, ScanCycle, Shared
from simulators.plc.links import BridgeLink, FieldLink, ModbusLink
from simulators.plc.record import PlcRecord
from simulators.process import die_with_parent, read_lines, run_first, say, settle_memory, stop_signals

REMEMBERED = 256
FORGET_EVERY_S = 10.0


class OpcuaChild:
    """The OPC UA client's process: its results come in as lines, triggers go out as lines."""

    def __init__(self, options: argparse.Namespace, record: PlcRecord) -> None:
        self._options, self._record = options, record
        self._process: asyncio.subprocess.Process | None = None

    async def run(self) -> None:
        """Start the client and take its lines until it ends; one that dies is started again."""
        options = self._options
        while True:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "simulators.plc.opcua", "--endpoint", options.opcua, "--line", options.line,
                "--station", options.station, "--parent", str(os.getpid()),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            lines = self._process.stdout
            while lines is not None and (line := await lines.readline()):
                self._take(line)
            await self._process.wait()
            await asyncio.sleep(1.0)

    def trigger(self, sequence: int, count: int) -> None:
        """Have the client tell the bridge of a part."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(f"trigger {sequence} {count}\n".encode())

    async def stop(self) -> None:
        """End the client."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(3):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def _take(self, line: bytes) -> None:
        event = json.loads(line)
        if event["event"] == "opcua_result":
            self._record.note_opcua(event)
        say(**event)


async def _forget_old(record: PlcRecord) -> None:
    while True:
        await asyncio.sleep(FORGET_EVERY_S)
        record.forget(keep=REMEMBERED)


async def serve(options: argparse.Namespace) -> int:
    """Run the PLC until it is told to stop; gives the exit code."""
    stop, shared, record = asyncio.Event(), Shared(), PlcRecord(scan_ms=options.scan)
    field = FieldLink(ModbusLink(name="field I/O", host=options.field_host, port=options.field_port))
    bridge = BridgeLink(ModbusLink(name="the bridge", host=options.bridge_host, port=options.bridge_port))
    child = OpcuaChild(options, record)
    plc = Plc(geometry=geometry_from(options), scan_ms=options.scan)
    scan = ScanCycle(
        plc=plc,
        field=field,
        shared=shared,
        record=record,
        scan_ms=options.scan,
        trigger=options.trigger,
        trigger_opcua=child.trigger,
        fires=not options.watch,
    )
    talk = BridgeCycle(
        link=bridge, shared=shared, record=record, scan_ms=options.scan, counts_per_mm=options.counts_per_mm
    )
    tasks = [
        asyncio.create_task(scan.run(), name="scan"),
        asyncio.create_task(talk.run(), name="bridge"),
        asyncio.create_task(stop.wait(), name="stop"),
    ]
    if options.log is None:
        tasks.append(asyncio.create_task(_forget_old(record), name="forget"))
    if options.opcua:
        tasks.append(asyncio.create_task(child.run(), name="opcua"))
        await asyncio.sleep(0)
    if (warning := run_first()) is not None:
        logging.getLogger(__name__).warning("PLC: %s", warning)
    settle_memory()
    say("ready")
    started_s = time.monotonic()
    with stop_signals(stop):
        if options.parent is not None:
            read_lines(lambda _line: None, stop.set)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await scan.rest()
        await child.stop()
    record.cpu_share = time.process_time() / max(1e-3, time.monotonic() - started_s)
    if options.log is not None:
        record.write(options.log)
    failures = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    for failure in failures:
        logging.getLogger(__name__).error("PLC: ended by %s: %s", type(failure).__name__, failure)
    return 1 if failures else 0


def parser() -> argparse.ArgumentParser:
    """Make the command line."""
    options = argparse.ArgumentParser(prog="linegate simulate plc", description="Simulate the line's PLC.")
    options.add_argument("--field-host", default="127.0.0.1", help="the conveyor's field I/O")
    options.add_argument("--field-port", type=int, default=5021)
    options.add_argument("--bridge-host", default="127.0.0.1", help="the bridge's Modbus server")
    options.add_argument("--bridge-port", type=int, default=5020)
    options.add_argument("--opcua", default="opc.tcp://127.0.0.1:4840/linegate/", help="endpoint; empty: no OPC UA")
    options.add_argument("--line", default="line1")
    options.add_argument("--station", default="station1")
    options.add_argument("--trigger", choices=("none", "modbus", "opcua"), default="none", help="who tells the bridge")
    options.add_argument("--watch", action="store_true", help="leave the gate to the bridge; read, count and confirm")
    options.add_argument("--scan", type=float, default=10.0, help="scan time in ms [10]")
    options.add_argument("--log", type=Path, help="JSON file for what the PLC did, written at the end")
    options.add_argument("--parent", type=int, help="process id to die with; the end of stdin stops the PLC too")
    add_geometry_options(options)
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code."""
    options = parser().parse_args(arguments)
    die_with_parent(options.parent)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if options.trigger == "opcua" and not options.opcua:
        sys.stderr.write("--trigger opcua needs --opcua, the endpoint to trigger at\n")
        return 2
    return asyncio.run(serve(options))


if __name__ == "__main__":
    sys.exit(main())
