"""From the verdict to registers and tags: as a client sees it that polls, and by the program's own stamps.

`Result.PartId` carries both moments in one value: its SourceTimestamp is when the part was decided, its ServerTimestamp
when the program wrote it, which both programs do right after the registers. Nobody polls while that is measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds

from benchmarks.compare import FLOORS, PROGRAMS, programs
from benchmarks.figures import Aim, Findings, Setup, quantile, table
from benchmarks.load import LIMIT_S, POLL_S, Load
from benchmarks.pictures import Payload

AIM_MS = 1.0
PARTS = 40
PAUSE_S = 0.02
TAGS = (
    "PartId",
    "Verdict",
    "Disposition",
    "Label",
    "LabelId",
    "Score",
    "Reason",
    "LatencyMs",
    "Written",
    "Sequence",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """After the verdict, in ms: what a polling client sees in registers and tags, and what the program says itself."""

    registers: Sequence[float]
    tags: Sequence[float]
    stamped: Sequence[float]


def measure(setup: Setup) -> Findings:
    """Measure each program with the small payload."""
    payload, parts = setup.payloads[0], PARTS // setup.shorter
    with programs(setup, [payload]) as loads:
        delays = {name: asyncio.run(_delays(load, payload, parts)) for name, load in loads.items()}
    return Findings(text=section(delays, parts), aims=(aim(delays["bridge"]),))


def aim(bridge: Delays) -> Aim:
    """Hold the bridge's own stamps against the aim: a client's polling is not its doing."""
    p50 = quantile(bridge.stamped, 0.5)
    return Aim(
        what="verdict to registers, p50, by the bridge's own stamps",
        aim=f"{AIM_MS:g} ms",
        figure=f"{p50:.2f} ms ({quantile(bridge.registers, 0.5):.2f} ms seen by a client that polls)",
        met=p50 <= AIM_MS,
    )


def section(delays: dict[str, Delays], parts: int) -> str:
    """Write what was found."""
    rows = []
    for what, column in (
        ("registers written, by the program's own stamps", "stamped"),
        ("registers, seen by a polling client", "registers"),
        ("ten tags, seen by a polling client", "tags"),
    ):
        for share, name in ((0.5, "p50"), (0.99, "p99")):
            values = {program: quantile(getattr(delays[program], column), share) for program in PROGRAMS}
            better = min(values[floor] for floor in FLOORS)
            rows.append(
                (f"{what}, {name}", *(f"{values[each]:.2f}" for each in PROGRAMS), f"{values['bridge'] - better:+.2f}")
            )
    return f"""## From the verdict to registers and tags

In ms after the verdict, {parts} parts of the small payload for each way:

{table(("", *PROGRAMS, "bridge - better floor"), rows)}

*Stamps*: one value of `Result` holds both moments, SourceTimestamp (decided) and ServerTimestamp (written, which both
programs do right after the registers); read once a part, long after. For the bridge the encoding of the document, the
journal's commit and the hand-over to the servers' thread lie in it. *Polling client*: registers and tags are read in
turn with a pause of {POLL_S * 1e3:g} ms; that adds half a turn, about a millisecond, and its requests hold up the very
thread that has to write. What limits it: Python's interpreter lock between the bridge's threads, and the journal's
disk."""


async def _delays(load: Load, payload: Payload, parts: int) -> Delays:
    target = load.target
    async with Client(target.endpoint, timeout=10) as client:
        index = await client.get_namespace_index(target.namespace)
        nodes = [ua.NodeId.from_string(f"ns={index};s={target.result}.{name}") for name in TAGS]
        stamped = [await _stamped(client, nodes, load, payload) for _ in range(parts)]
        seen = [await _seen(client, nodes, load, payload) for _ in range(parts)]
    return Delays(registers=[each for each, _ in seen], tags=[each for _, each in seen], stamped=stamped)


async def _stamped(client: Client, nodes: Sequence[ua.NodeId], load: Load, payload: Payload) -> float:
    """Publish one part, leave the program alone, and read its stamps."""
    sequence = load.publish(payload)
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        await asyncio.sleep(payload.size.interval_ms / 1e3)
        values = await _read(client, nodes)
        if _sequence(values) == sequence:
            part = values[0]
            assert part.ServerTimestamp is not None
            return (_aware(part.ServerTimestamp) - _decided(values)).total_seconds() * 1e3
    raise RuntimeError(f"{load.target.name}: no tags for trigger {sequence}")


async def _seen(client: Client, nodes: Sequence[ua.NodeId], load: Load, payload: Payload) -> tuple[float, float]:
    """Publish one part and read registers and tags in turn until both show it."""
    sequence = load.publish(payload)
    end = time.monotonic() + LIMIT_S
    in_registers = in_tags = None
    while in_registers is None or in_tags is None:
        if in_registers is None and load.shown() == sequence:
            in_registers = datetime.now(UTC)
        if in_tags is None and _sequence(values := await _read(client, nodes)) == sequence:
            in_tags, decided = datetime.now(UTC), _decided(values)
        if time.monotonic() > end:
            raise RuntimeError(f"{load.target.name}: no result for trigger {sequence}")
        await asyncio.sleep(POLL_S)
    await asyncio.sleep(PAUSE_S)
    return (in_registers - decided).total_seconds() * 1e3, (in_tags - decided).total_seconds() * 1e3


async def _read(client: Client, nodes: Sequence[ua.NodeId]) -> list[ua.DataValue]:
    wanted = [ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.Value) for node in nodes]
    both = ua.ReadParameters(TimestampsToReturn=ua.TimestampsToReturn.Both, NodesToRead=wanted)
    return list(await client.uaclient.read(both))


def _sequence(values: Sequence[ua.DataValue]) -> int | None:
    value = values[-1].Value
    return None if value is None else value.Value


def _decided(values: Sequence[ua.DataValue]) -> datetime:
    stamp = values[-1].SourceTimestamp
    assert stamp is not None
    return _aware(stamp)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
