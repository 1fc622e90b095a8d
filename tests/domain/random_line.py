"""One random belt with its parts, the bridge that watches it, and whoever fires its gate."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from bridge.domain.belt import Belt, BeltEvent, BeltSettings
from bridge.domain.gate import GateOrder, Release
from bridge.domain.gate_drive import GateCall, GateDrive
from bridge.domain.gate_plan import GatePlan, Revision
from bridge.domain.gate_settings import GateSettings
from bridge.domain.verdict import Disposition
from tests.domain.belt_truth import EPOCH_NS, MS, Key, TrueBelt, TruePart, random_breaks

NOT_FIRED = "not fired in time"


@dataclass
class Told:
    """What was reported to the outside."""

    orders: dict[Key, GateOrder] = field(default_factory=dict)
    published_ns: dict[Key, int] = field(default_factory=dict)
    rejected: set[Key] = field(default_factory=set)
    missed: dict[Key, str] = field(default_factory=dict)
    ordered: set[Key] = field(default_factory=set)
    collateral: set[Key] = field(default_factory=set)
    afterwards: set[Key] = field(default_factory=set)


class Line:
    """Runs from event to event; `told` and `switches` are what came of it."""

    def __init__(self, seed: int, *, releases: bool = False) -> None:
        rng = self.rng = random.Random(seed)
        top = rng.uniform(100.0, 3000.0)
        self.top = top
        breaks, self.profile = random_breaks(rng, top)
        self.belt = TrueBelt(breaks)
        even = self.profile == "even"
        sources = ("fixed", "mqtt", "encoder", "encoder") if even else ("plc", "encoder", "encoder")
        self.source = rng.choice(sources)
        mode = "bridge" if releases else rng.choice(("plc", "bridge"))
        self.by_count = mode == "plc" and self.source == "encoder"
        self.settings = GateSettings(
            mode=mode,  # type: ignore[arg-type]
            kind="divert" if releases else rng.choice(("divert", "divert", "divert", "pulse")),
            rest="reject" if releases else "pass",
            distance_mm=rng.choice((600.0, rng.uniform(300.0, 1500.0))),
            open_lead_ms=rng.choice((40.0, rng.uniform(5.0, 60.0))),
            close_lead_ms=rng.choice((40.0, rng.uniform(5.0, 60.0))),
            length_tolerance_mm=rng.choice((0.0, 5.0)),
            pulse_ms=rng.choice((30.0, 50.0)),
            firing_jitter_ms=min(10.0, 9_000.0 / top),  # a scan that fits the belt: a third of the shortest part
        )
        bits = rng.choice((32, 32, 24, 16))
        self.cpm = rng.choice((10.0, 5.0, 2.0)) if bits > 16 else 10.0
        self.belt_settings = BeltSettings(
            speed_mm_s=top,
            speed_source=self.source,  # type: ignore[arg-type]
            counts_per_mm=self.cpm,
            encoder_bits=bits,
        )
        self.count0 = rng.choice((0, 2**bits - rng.randint(1, 20_000), rng.randrange(2**bits)))
        self.bridge_belt = Belt(self.belt_settings)
        self.plan = GatePlan(self.settings, self.bridge_belt)
        self.drive = GateDrive(self.settings)
        self.untold: set[Key] = set()
        self.told = Told()
        self.switches: list[tuple[int, int]] = []
        self.stuck: set[Key] = set()
        self.on_ns: int | None = EPOCH_NS - 10_000 * MS if self.settings.releases else None
        self.parts: dict[Key, TruePart] = self._random_parts()
        self.hear_ns = 0 if mode == "bridge" else round(rng.uniform(0, self.settings.publish_ms) * MS)
        self.wake_ms = 2.0 if mode == "bridge" else self.settings.firing_jitter_ms
        self.silent = (0, 0)
        knows_later = self.source == "encoder" or (even and self.source != "fixed")
        if knows_later and rng.random() < 0.1:
            from_ns = EPOCH_NS + round(rng.uniform(200, 1500) * MS)
            self.silent = (from_ns, from_ns + round(rng.uniform(300, 2500) * MS))
        self.reset_ns = EPOCH_NS + round(rng.uniform(300, 1500) * MS) if self.by_count and rng.random() < 0.05 else None
        self.heap: list[tuple[int, int, str, Any]] = []
        self.order = count()

    def _random_parts(self) -> dict[Key, TruePart]:
        rng = self.rng
        parts: dict[Key, TruePart] = {}
        x = 0.25 * self.top
        first = 2**32 - 2 if rng.random() < 0.1 else rng.randint(0, 1000)
        for i in range(rng.randint(3, 8)):
            key = (1, (first + i) % 2**32)
            said = rng.choice((None, rng.uniform(30.0, 250.0)))
            nominal = self.settings.part_length_mm if said is None else said
            length = nominal + rng.uniform(0.0, self.settings.length_tolerance_mm)
            parts[key] = TruePart(
                key=key,
                x0=x,
                length=length,
                reject=rng.random() < 0.45,
                delay_ms=rng.choice((rng.uniform(3, 60), rng.uniform(3, 60), rng.uniform(60, 700))),
                hung=rng.random() < 0.05,
                latched=self.source == "encoder" and rng.random() < 0.7,
                said_length=said,
            )
            x += length + rng.choice((rng.uniform(20, 120), rng.uniform(20, 500)))
        return parts

    def counts(self, place: float) -> int:
        if self.reset_ns is not None and place >= self.belt.at(self.reset_ns):
            place += 3000.0
        return (self.count0 + int(place * self.cpm)) % self.belt_settings.modulus

    def put(self, at_ns: int, what: str, thing: Any = None) -> None:
        heapq.heappush(self.heap, (at_ns, next(self.order), what, thing))

    def run(self) -> None:
        last = max(self.parts.values(), key=lambda part: part.x0)
        self.end_ns = self.belt.reach(last.x0 + self.settings.distance_mm + last.length + 0.4 * self.top)
        travel_ms = (self.end_ns - EPOCH_NS) / MS
        self.cadence_ns = round(max(10.0, min(60.0, travel_ms / 120)) * MS)
        self._sow()
        while self.heap:
            at_ns, _, what, thing = heapq.heappop(self.heap)
            self._fire_until(at_ns)
            self.now_ns = at_ns
            getattr(self, "_" + what)(at_ns, thing)
        self._fire_until(self.end_ns + 5000 * MS)
        if self.settings.releases:
            self._position(self.end_ns + 5000 * MS, rejecting=False)
        if self.by_count:
            self._plc_fires()

    def _sow(self) -> None:
        if self.source == "encoder":
            self.put(EPOCH_NS, "sample")
        elif self.source != "fixed":
            for at_ns, speed in self.belt.breaks:
                if at_ns < self.end_ns:
                    self.put(at_ns, "speed", speed)
            self.put(EPOCH_NS + 300 * MS, "again")
        self.put(EPOCH_NS + 50 * MS, "tick")
        untold = random.Random(self.parts[next(iter(self.parts))].x0)
        for part in self.parts.values():
            if self.settings.releases and untold.random() < 0.1:
                self.untold.add(part.key)
                continue
            beam_ns = self.belt.reach(part.x0)
            self.put(beam_ns + round(self.rng.uniform(0, 40 if part.latched else 1) * MS), "trigger", (part, beam_ns))

    # what reaches the bridge

    def _sample(self, now_ns: int, _: Any) -> None:
        event = BeltEvent.IGNORED
        if not self._deaf(now_ns):
            event = self.bridge_belt.encoder_sample(self.counts(self.belt.at(now_ns)), now_ns)
        if event is BeltEvent.RESET:
            assert self.reset_ns is not None or self.silent[1]
            self._told_all(self.plan.reset(now_ns))
        if event is BeltEvent.LOST:
            assert self.silent[1]
            self._told_all(self.plan.lose(now_ns, "place lost", counted=False))
        self._revise(now_ns)
        if now_ns < max(self.end_ns, self.silent[1] + 300 * MS):
            self.put(now_ns + self.cadence_ns, "sample")

    def _speed(self, now_ns: int, speed: float) -> None:
        if not self._deaf(now_ns) and self.bridge_belt.speed_sample(speed, now_ns) is BeltEvent.LOST:
            assert self.silent[1]
            self._told_all(self.plan.lose(now_ns, "place lost", counted=False))
        self._revise(now_ns)

    def _deaf(self, now_ns: int) -> bool:
        return self.silent[0] <= now_ns < self.silent[1]

    def _again(self, now_ns: int, _: Any) -> None:
        self._speed(now_ns, self.belt.speed(now_ns))
        if now_ns < self.end_ns:
            self.put(now_ns + 300 * MS, "again")

    def _tick(self, now_ns: int, _: Any) -> None:
        self._revise(now_ns)
        if now_ns < self.end_ns + 1200 * MS:
            self.put(now_ns + 100 * MS, "tick")

    def _trigger(self, now_ns: int, thing: tuple[TruePart, int]) -> None:
        part, beam_ns = thing
        placed = self.bridge_belt.place(
            triggered_ns=beam_ns if not part.latched else now_ns,
            latched_count=self.counts(part.x0) if part.latched else None,
            now_ns=now_ns,
        )
        assert not placed.latch_ignored or self.reset_ns
        self.plan.expect(
            part.key, x0_mm=placed.x0_mm, count_at_trigger=placed.count_at_trigger, length_mm=part.said_length
        )
        late_ms = part.delay_ms + (self.rng.uniform(200, 900) if part.hung else 0.0)
        self.put(max(now_ns, beam_ns + round(late_ms * MS)), "verdict", part)
        if not part.hung:
            self._deadline(now_ns, part)

    def _deadline(self, now_ns: int, part: TruePart) -> None:
        """Decide LATE at the deadline, which moves with the belt."""
        if part.decided:
            return
        deadline_ns = self.plan.deadline_ns(part.key, now_ns)
        if deadline_ns is not None and deadline_ns <= now_ns:
            self._decide(now_ns, part, Disposition.REJECT)
        else:
            wait_ns = 20 * MS if deadline_ns is None else min(deadline_ns - now_ns, 50 * MS)
            self.put(now_ns + max(1, wait_ns), "deadline", part)

    def _verdict(self, now_ns: int, part: TruePart) -> None:
        if not part.decided:
            self._decide(now_ns, part, Disposition.REJECT if part.reject else Disposition.LET_PASS)

    def _decide(self, now_ns: int, part: TruePart, disposition: Disposition) -> None:
        part.decided = True
        outcome = self.plan.order_for(part.key, disposition, now_ns)
        assert self.plan.order_for(part.key, disposition, now_ns).order == outcome.order
        order = outcome.order
        if outcome.release is not None:
            self._release(part.key, outcome.release)
        self.told.orders[part.key] = order
        self.told.published_ns[part.key] = now_ns
        assert not self.told.collateral & set(outcome.collateral), "told twice"
        self.told.collateral |= set(outcome.collateral)
        if order.state == "ordered":
            self.told.ordered.add(part.key)
        if disposition is Disposition.REJECT:
            self.told.rejected.add(part.key)
            assert order.state in ("ordered", "missed")
            if order.state == "missed":
                self.told.missed[part.key] = order.reason or ""
            elif not self.by_count:
                self.put(now_ns + self.hear_ns, "hear", (part.key, order))
        elif order.collateral:
            self.told.collateral.add(part.key)

    def _hear(self, now_ns: int, thing: tuple[Key, GateOrder]) -> None:
        """What was published reaches whoever fires by moments."""
        key, order = thing
        kind = "withdraw" if order.state == "missed" else "reject"
        self._call(GateCall(kind=kind, key=key, due_ns=order.due_ns, off_ns=order.off_ns), now_ns)

    def _release(self, key: Key, release: Release) -> None:
        kind = "withdraw" if release.refused else "release"
        self._call(GateCall(kind=kind, key=key, due_ns=release.due_ns, off_ns=release.off_ns), self.now_ns)

    def _call(self, call: GateCall, now_ns: int) -> None:
        assert self.drive.take(call, now_ns), f"too late: {call}"

    def _revise(self, now_ns: int) -> None:
        self._told_all(self.plan.revise(now_ns))
        self.plan.prune(now_ns)

    def _told_all(self, revisions: list[Revision]) -> None:
        for revision in revisions:
            before, order = self.told.orders[revision.key], revision.order
            assert (order.open_count, order.close_count) == (before.open_count, before.close_count)
            if revision.release is not None:
                self._release(revision.key, revision.release)
                continue
            if revision.collateral:
                assert revision.key not in self.told.collateral
                self.told.collateral.add(revision.key)
                self.told.afterwards.add(revision.key)
                continue
            self.told.orders[revision.key] = order
            if revision.missed:
                self.told.missed[revision.key] = order.reason or ""
            if not self.by_count:
                self.put(self.now_ns + self.hear_ns, "hear", (revision.key, order))

    # who fires

    def _fire_until(self, until_ns: int) -> None:
        """Whoever fires by moments: the gate process wakes up to 2 ms late, the PLC a scan."""
        while (due_ns := self.drive.next_due()) is not None and due_ns <= until_ns:
            now_ns = min(due_ns + round(self.rng.uniform(0, self.wake_ms) * MS), max(until_ns, due_ns))
            for step in self.drive.poll(now_ns):
                if step.command.kind == "missed" and step.kind == "release":
                    self.told.collateral |= set(step.command.keys)
                elif step.command.kind == "missed":
                    self.told.missed |= dict.fromkeys(step.command.keys, NOT_FIRED)
                elif step.command.kind == "stuck":
                    self.stuck |= set(step.command.keys)
            self._position(now_ns, rejecting=self.drive.level != self.settings.releases)

    def _position(self, now_ns: int, *, rejecting: bool) -> None:
        if rejecting and self.on_ns is None:
            self.on_ns = now_ns
        elif not rejecting and self.on_ns is not None:
            self.switches.append((self.on_ns, now_ns))
            self.on_ns = None

    def _plc_fires(self) -> None:
        """An ideal PLC that fires by counts, up to a scan late, merges what is near, and guards max_on."""
        settings, late_ns = self.settings, self.settings.firing_jitter_ms * MS
        wanted = [self._cam(key) for key in self.told.ordered if key not in self.told.missed]
        for due_ns, end_ns, key in sorted(wanted):
            on_ns = due_ns + round(self.rng.uniform(0, late_ns))
            off_ns = max(end_ns + round(self.rng.uniform(0, late_ns)), on_ns + round(settings.min_on_ms * MS))
            if off_ns - on_ns > settings.max_on_ms * MS:
                off_ns = on_ns + round(settings.max_on_ms * MS)
                self.stuck.add(key)
            if self.switches and on_ns - self.switches[-1][1] < settings.rest_ms * MS:
                first_ns, last_ns = self.switches.pop()
                self.switches.append((first_ns, max(last_ns, off_ns)))
            else:
                self.switches.append((on_ns, off_ns))

    def _cam(self, key: Key) -> tuple[int, int, Key]:
        """When a cam switch of the PLC goes on and off for one order; without counts it follows the moments."""
        order = self.told.orders[key]
        if order.open_count is None or order.close_count is None:
            assert order.due_ns is not None and order.off_ns is not None
            return order.due_ns, order.off_ns, key
        seen_ns = self.told.published_ns[key] + round(self.rng.uniform(0, self.settings.publish_ms / 2) * MS)
        here_mm, modulus = self.belt.at(seen_ns), self.belt_settings.modulus
        base, grains = self.counts(here_mm), int(here_mm * self.cpm)
        start_mm, end_mm = (
            (grains + (edge - base + modulus // 2) % modulus - modulus // 2) / self.cpm
            for edge in (order.open_count, order.close_count)
        )
        on_ns = self.belt.reach(start_mm, seen_ns, self.settings.open_lead_ms)
        return on_ns, self.belt.reach(end_mm, seen_ns), key
