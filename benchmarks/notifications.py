"""From the verdict to an OPC UA subscriber who is told every 10 ms: of `Result.Sequence`, and of the event.

A notification carries the decided moment (SourceTimestamp of the value, Time of the event); it is compared with the clock
at the moment at which the client's library hands it over. Clock, client and program are on one machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from benchmarks.compare import FLOORS, PROGRAMS, programs
from benchmarks.figures import Aim, Findings, Setup, quantile, table
from benchmarks.load import LIMIT_S, Load
from benchmarks.pictures import Payload

AIM_MS = 20.0
PUBLISHING_MS = 10.0
PARTS = 200
INTERVAL_S = 0.037  # no multiple of the publishing interval, so that verdicts fall anywhere in it
EVENT = "ResultReadyEventType"


@dataclass(slots=True, kw_only=True)
class Told:
    """Takes notifications; delays after the verdict in ms, by sequence."""

    values: dict[int, float] = field(default_factory=dict)
    events: dict[int, float] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def datachange_notification(self, _node: object, value: int | None, data: Any) -> None:
        """Take the change of a value."""
        now, decided = datetime.now(UTC), data.monitored_item.Value.SourceTimestamp
        if value is not None and decided is not None:
            self.values[value] = _ms(now, decided)
            self.changed.set()

    def event_notification(self, event: Any) -> None:
        """Take an event."""
        self.events[event.Sequence] = _ms(datetime.now(UTC), event.Time)
        self.changed.set()


def measure(setup: Setup) -> Findings:
    """Measure each program with the small payload."""
    payload, parts = setup.payloads[0], PARTS // setup.shorter
    with programs(setup, [payload]) as loads:
        told = {name: asyncio.run(_told(load, payload, parts, of_events=False)) for name, load in loads.items()}
        told["bridge"].events = asyncio.run(_told(loads["bridge"], payload, parts, of_events=True)).events
    return Findings(text=section(told, parts), aims=(aim(told["bridge"], parts),))


def aim(bridge: Told, parts: int) -> Aim:
    """Hold the bridge's p99 against the aim; who was not told of every part has not met it."""
    p99 = quantile(_values(bridge), 0.99)
    return Aim(
        what=f"verdict to OPC UA notification at {PUBLISHING_MS:g} ms publishing, p99",
        aim=f"{AIM_MS:g} ms",
        figure=f"{p99:.1f} ms (event {quantile(_events(bridge), 0.99):.1f} ms)",
        met=p99 <= AIM_MS and len(bridge.values) >= parts,
    )


def section(told: dict[str, Told], parts: int) -> str:
    """Write what was found."""
    rows = []
    for share, name in ((0.5, "p50"), (0.99, "p99"), (1.0, "max")):
        values = {program: quantile(_values(told[program]), share) for program in PROGRAMS}
        better = min(values[floor] for floor in FLOORS)
        rows.append(
            (f"value, {name}", *(f"{values[each]:.1f}" for each in PROGRAMS), f"{values['bridge'] - better:+.1f}")
        )
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        rows.append((f"event, {name}", *[""] * len(FLOORS), f"{quantile(_events(told['bridge']), share):.1f}", ""))
    return f"""## From the verdict to an OPC UA subscriber

In ms after the verdict, {parts} parts of the small payload, one every {INTERVAL_S * 1e3:g} ms or when the last one was
told, one subscriber with a publishing interval of {PUBLISHING_MS:g} ms, in turn for each program:

{table(("", *PROGRAMS, "bridge - better floor"), rows)}

*Value*: the change of `Result.Sequence`; *event*: `{EVENT}`, which the bridge alone has, by itself. What limits it: the
interval (a verdict waits for 5 ms of it in the mean and for 10 at worst), and then who gets a core when: the subscriber's
own decoding and the inference of the next part share them."""


async def _told(load: Load, payload: Payload, parts: int, *, of_events: bool) -> Told:
    target, told = load.target, Told()
    seen = told.events if of_events else told.values
    async with Client(target.endpoint, timeout=10) as client:
        index = await client.get_namespace_index(target.namespace)
        subscription = await client.create_subscription(PUBLISHING_MS, told)
        if of_events:
            wanted = ua.EventFilter(SelectClauses=[_clause("Time", 0), _clause("Sequence", index)])
            await subscription.subscribe_events(ua.NodeId(ua.Int32(ObjectIds.Server)), evfilter=wanted)
        else:
            await subscription.subscribe_data_change(client.get_node(f"ns={index};s={target.result}.Sequence"))
        await asyncio.sleep(5 * INTERVAL_S)
        seen.clear()
        for _ in range(parts):
            sequence = load.publish(payload)
            await asyncio.sleep(INTERVAL_S)
            try:
                async with asyncio.timeout(LIMIT_S):
                    while sequence not in seen:
                        told.changed.clear()
                        await told.changed.wait()
            except TimeoutError as exc:
                raise RuntimeError(f"{target.name}: no notification of trigger {sequence}") from exc
        await asyncio.sleep(INTERVAL_S)
    return told


def _clause(name: str, index: int) -> ua.SimpleAttributeOperand:
    path = [ua.QualifiedName(ua.String(name), ua.UInt16(index))]
    return ua.SimpleAttributeOperand(
        TypeDefinitionId=ua.NodeId(ua.Int32(ObjectIds.BaseEventType)),
        BrowsePath=path,
        AttributeId=ua.IntegerId(AttributeIds.Value),
    )


def _values(told: Told) -> Sequence[float]:
    return list(told.values.values())


def _events(told: Told) -> Sequence[float]:
    return list(told.events.values())


def _ms(now: datetime, decided: datetime) -> float:
    aware = decided if decided.tzinfo else decided.replace(tzinfo=UTC)
    return (now - aware).total_seconds() * 1e3
