"""The PLC's OPC UA client, a process of its own so that it can't disturb the scan: `python -P -m simulators.plc.opcua`.

Watches Result.Sequence by subscription, reads the result in ONE Read, and asks GetResult for what it missed. Each
result goes to stdout as a line of JSON. A line `trigger SEQUENCE COUNT` on stdin is told to the bridge by handshake.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.node import Node
from asyncua.ua.uaerrors import BadNoData, UaError

from simulators.line.field_io import Edge
from simulators.plc.handshake import TriggerHandshake
from simulators.plc.tables import NAMESPACE_URI, RESULT_VARIABLES, U32
from simulators.process import die_with_parent, read_lines, say, stop_signals

log = logging.getLogger(__name__)
REMEMBERED = 1000
OUT_OF_ORDER = 16
"""So far behind a later one a trigger may still come: after a broker's return, for one."""
CODES = {"NONE": 0, "LET_PASS": 1, "REJECT": 2}


@dataclass(slots=True)
class Progress:
    """How far results have been read, over all sessions; None before the first."""

    written: int | None = None
    sequence: int | None = None
    read: deque[int] = field(default_factory=lambda: deque(maxlen=4 * OUT_OF_ORDER))

    def note(self, sequence: int) -> None:
        """Keep in mind that a result was read."""
        self.read.append(sequence)


class ResultWatch:
    """One session with the bridge: subscribes, reads, and fetches what it missed, in an earlier session too."""

    def __init__(self, client: Client, station: str, handshake: TriggerHandshake, progress: Progress) -> None:
        self._client, self._station, self._handshake = client, station, handshake
        self._changed = asyncio.Event()
        self._progress = progress

    def datachange_notification(self, _node: Node, _value: Any, _data: Any) -> None:
        """Take a notification from asyncua."""
        self._changed.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until told to stop or until the session fails."""
        index = await self._client.get_namespace_index(NAMESPACE_URI)
        base = f"ns={index};s={self._station}"
        self._object = self._client.get_node(base)
        self._get_result = self._client.get_node(f"{base}.GetResult")
        results = [self._client.get_node(f"{base}.Result.{name}") for name in RESULT_VARIABLES]
        self._status = [self._client.get_node(f"{base}.Status.{name}") for name in ("Ready", "TriggerAck")]
        names = ("TriggerSequence", "TriggerEncoder", "TriggerAgeMs", "Trigger")
        self._control = [self._client.get_node(f"{base}.Control.{name}") for name in names]
        subscription = await self._client.create_subscription(20, self)
        await subscription.subscribe_data_change(results[RESULT_VARIABLES.index("Sequence")])
        say("opcua_up")
        # An earlier session, or this program before it was restarted, may have left the bit standing.
        self._trigger_shown: bool | None = None
        while not stop.is_set():
            await self._handshake_step()
            await self._wait(0.005 if self._handshake.busy else 0.25)
            self._changed.clear()
            answer = await self._client.read_attributes(results)
            await self._take([value.Value.Value if value.Value is not None else None for value in answer])

    async def _wait(self, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _take(self, values: list[Any]) -> None:
        """Tell of a new result, and of those between it and the last one."""
        result = dict(zip(RESULT_VARIABLES, values, strict=True))
        written, sequence = result["Written"], result["Sequence"]
        last = self._progress
        if not written or sequence is None or not result["Verdict"]:
            last.written = 0 if last.written is None else last.written
            return
        if written == last.written:
            return
        if last.written is not None and last.sequence is not None:
            skipped = (written - last.written) % U32 - 1
            if 0 < skipped <= REMEMBERED:
                await self._catch_up(last.sequence, sequence, skipped)
        last.written, last.sequence = written, sequence
        last.note(sequence)
        say(
            "opcua_result", sequence=sequence, verdict=int(result["Verdict"]), disposition=int(result["Disposition"]),
            at_ns=time.monotonic_ns(), by="read",
        )  # fmt: skip

    async def _catch_up(self, last: int, sequence: int, skipped: int) -> None:
        """Ask for results that went by between two reads: those between, and then those after, which came out of order."""
        forward = (sequence - last) % U32
        backward = forward > U32 // 2
        between = () if backward else ((last + step) % U32 for step in range(1, min(forward, REMEMBERED + 1)))
        after = (((last if backward else sequence) + step) % U32 for step in range(1, OUT_OF_ORDER + 1))
        for candidate in (*between, *after):
            if skipped and candidate not in self._progress.read and await self._fetch(candidate):
                skipped -= 1

    async def _fetch(self, sequence: int) -> bool:
        """Ask for a result and tell of it; one that never was has no data."""
        try:
            text = await self._object.call_method(self._get_result.nodeid, ua.Variant(sequence, ua.VariantType.UInt32))
        except BadNoData:
            return False
        document = json.loads(text)
        if document.get("replayed"):
            return False  # nothing of a part on the belt
        self._progress.note(sequence)
        say(
            "opcua_result", sequence=sequence, verdict=int(document["code"]),
            disposition=CODES.get(document["disposition"], 0), at_ns=time.monotonic_ns(), by="get_result",
        )  # fmt: skip
        return True

    async def _handshake_step(self) -> None:
        if not self._handshake.busy:
            return
        answer = await self._client.read_attributes(self._status)
        ready, acknowledged = (bool(value.Value.Value) if value.Value is not None else False for value in answer)
        request = self._handshake.step(time.monotonic_ns(), ready=ready, acknowledged=acknowledged)
        if request.trigger == self._trigger_shown:
            return
        self._trigger_shown = request.trigger
        types = (ua.VariantType.UInt32, ua.VariantType.UInt32, ua.VariantType.UInt16, ua.VariantType.Boolean)
        values = (request.edge.sequence, request.edge.count, 65535, request.trigger)
        variants = [ua.DataValue(ua.Variant(value, kind)) for value, kind in zip(values, types, strict=True)]
        for status in await self._client.uaclient.write_attributes([node.nodeid for node in self._control], variants):
            status.check()

    def wake(self) -> None:
        """Look at the handshake now."""
        self._changed.set()


class Reader:
    """Keep a session alive: a new client for each try, a line on loss and one on return."""

    def __init__(self, *, endpoint: str, station: str) -> None:
        self._endpoint, self._station = endpoint, station
        self._handshake = TriggerHandshake()
        self._progress = Progress()
        self._watch: ResultWatch | None = None

    def command(self, line: str) -> None:
        """Take a line of stdin."""
        words = line.split()
        if len(words) == 3 and words[0] == "trigger" and words[1].isdigit() and words[2].isdigit():
            self._handshake.take(Edge(sequence=int(words[1]), count=int(words[2])), time.monotonic_ns())
            if self._watch is not None:
                self._watch.wake()

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until told to stop, connecting again after each loss."""
        lost = False
        while not stop.is_set():
            client = Client(self._endpoint, timeout=2)
            try:
                async with asyncio.timeout(5):
                    await client.connect()
                if lost:
                    log.warning("PLC: the bridge's OPC UA server at %s is back", self._endpoint)
                lost = False
                self._watch = ResultWatch(client, self._station, self._handshake, self._progress)
                await self._watch.run(stop)
            except (UaError, OSError, TimeoutError, ValueError) as exc:
                if not lost:
                    log.warning("PLC: OPC UA at %s does not answer: %s", self._endpoint, exc or type(exc).__name__)
                lost = True
            except asyncio.CancelledError:
                # asyncua cancels what waits for an answer when its connection goes: that ends a session, not this task.
                if _ending():
                    raise
                lost = True
            finally:
                self._watch = None
                await _hang_up(client)
            if not stop.is_set():
                await asyncio.sleep(0.5)


def _ending() -> bool:
    """Whether somebody has cancelled the present task itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _hang_up(client: Client) -> None:
    """Close a session that may be broken already."""
    try:
        async with asyncio.timeout(1):
            await client.disconnect()
    except (UaError, OSError, TimeoutError) as exc:
        log.debug("closing the session: %s", exc)
    except asyncio.CancelledError:
        if _ending():
            raise


def parser() -> argparse.ArgumentParser:
    """Make the command line."""
    options = argparse.ArgumentParser(description="Watch a bridge's results by OPC UA.")
    options.add_argument("--endpoint", default="opc.tcp://127.0.0.1:4840/linegate/")
    options.add_argument("--line", default="line1")
    options.add_argument("--station", default="station1")
    options.add_argument("--parent", type=int, help="process id to die with")
    return options


async def _serve(options: argparse.Namespace) -> int:
    stop = asyncio.Event()
    reader = Reader(endpoint=options.endpoint, station=f"{options.line}.{options.station}")
    with stop_signals(stop):
        read_lines(reader.command, stop.set)
        task = asyncio.create_task(reader.run(stop), name="opcua-reader")
        await stop.wait()
        # A session that hangs is not waited for: the process ends, and the server's time limit closes it.
        await asyncio.wait({task}, timeout=1.5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code."""
    options = parser().parse_args(arguments)
    die_with_parent(options.parent)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    return asyncio.run(_serve(options))


if __name__ == "__main__":
    sys.exit(main())
