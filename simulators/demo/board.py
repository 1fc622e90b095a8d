"""What the demo knows of the line at this moment, gathered from its children's events: the live view draws it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FAULT_FRAME = ("event", "kind", "at_ns")
FATES = ("binned", "passed", "swept")


@dataclass(slots=True, kw_only=True)
class OnBelt:
    """One part between beam and gate."""

    sequence: int
    label: str
    front_mm: float
    verdict: str | None = None
    fate: str | None = None


@dataclass(slots=True, kw_only=True)
class Board:
    """Everything that the view shows. Latencies in ms as measured by the bridge, firing errors in mm by the PLC."""

    goal: int | None
    parts: dict[int, OnBelt] = field(default_factory=dict)
    verdicts: Counter[str] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)
    lately: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=8))
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=500))
    errors_mm: deque[float] = field(default_factory=lambda: deque(maxlen=500))
    notes: deque[str] = field(default_factory=lambda: deque(maxlen=4))
    told: set[int] = field(default_factory=set)
    by_modbus: set[int] = field(default_factory=set)
    by_opcua: set[int] = field(default_factory=set)
    seen: int = 0
    gate_on: bool = False
    speed_mm_s: float = 0.0
    _belt: tuple[int, float] = (0, 0.0)

    def belt_mm(self, now_ns: int) -> float:
        """Give the belt's position, carried on from the conveyor's last word at the last speed."""
        at_ns, position_mm = self._belt
        return position_mm + (now_ns - at_ns) / 1e9 * self.speed_mm_s if at_ns else 0.0

    def take(self, child: str, event: Mapping[str, Any]) -> str | None:
        """Take one event of a child; gives a line worth printing, or None."""
        kind = event["event"]
        if kind == "belt" and "mm" in event:
            self._belt, self.speed_mm_s = (event["at_ns"], event["mm"]), event["mm_s"]
        elif kind == "belt":
            return self.note(f"belt {event['text']}")
        elif kind == "at_eye":
            return self._at_eye(event)
        elif kind in FATES:
            self.fates[kind] += 1
            if (part := self.parts.get(event["sequence"])) is not None:
                part.fate = kind
        elif kind == "gate":
            self.gate_on = event["on"]
        elif kind == "modbus_result":
            self.by_modbus.add(event["sequence"])
        elif kind == "opcua_result":
            self.by_opcua.add(event["sequence"])
        elif kind == "fired" and event["error_ms"] is not None:
            self.errors_mm.append(abs(event["error_ms"]) * event["mm_s"] / 1e3)
        elif kind == "decision" and event["by"] == "release":
            return self.note(f"part {event['sequence']}: rejected by positive release, {event['reason']}")
        elif kind == "stop_request":
            return self.note(
                "the bridge asks to stop the line (StopRequest); the demo's line runs on"
                if event["on"]
                else "the bridge no longer asks to stop the line"
            )
        elif kind == "said":
            return self.note(f"{child}: {event['text']}")
        else:
            return self._befalls(kind, event)
        return None

    def _befalls(self, kind: str, event: Mapping[str, Any]) -> str | None:
        if kind == "fault":
            keys = (f"{key} {value:g}" for key, value in event.items() if key not in FAULT_FRAME and value is not None)
            return self.note(f"fault: {' '.join((event['kind'], *keys))}")
        if kind == "unguarded":
            return self.note(f"nobody guards the gate ({event['text']}): it stands open for rejects")
        return self.note("the gate is commanded again") if kind == "guarded" else None

    def hear(self, verdict: Mapping[str, Any]) -> str:
        """Take one verdict document from MQTT; gives it as a line."""
        name, sequence = str(verdict["verdict"]), int(verdict["sequence"])
        self.verdicts[name] += 1
        self.lately.append(verdict)
        total_ms = (verdict.get("timing_ms") or {}).get("total")
        if total_ms is not None:
            self.latencies_ms.append(float(total_ms))
        if (part := self.parts.get(sequence)) is not None:
            part.verdict = name
        took = "" if total_ms is None else f"{total_ms:.1f} ms"
        return f"part {verdict['part_id']:<10} {name:<9} {verdict['disposition']:<8} {took:>9}  {verdict['reason']}"

    def gate_report(self, report: Mapping[str, Any]) -> None:
        """Take what the bridge tells of a gate order; it measures the error of those that it fired itself."""
        if report.get("event") == "fired" and report.get("error_ms") is not None:
            self.errors_mm.append(abs(report["error_ms"]) * self.speed_mm_s / 1e3)

    def alarm(self, alarm: Mapping[str, Any]) -> str | None:
        """Take one alarm document from MQTT; gives it as a line once the line runs: before, everything is starting."""
        if not self.seen:
            return None
        return self.note(f"alarm {alarm['name']} {alarm['state']}: {alarm['text']}")

    def _at_eye(self, event: Mapping[str, Any]) -> str | None:
        sequence = event["sequence"]
        self.seen += 1
        self.parts[sequence] = OnBelt(sequence=sequence, label=event["label"], front_mm=event["front_mm"])
        while len(self.parts) > 40:
            del self.parts[next(iter(self.parts))]
        if event["copies"] > 0:
            self.told.add(sequence)
        if event.get("touching"):
            return self.note(f"part {sequence}: another lies against it, the eye sees one long part")
        if event["copies"] == 0:
            return self.note(f"part {sequence}: its trigger is lost")
        if event["copies"] > 1:
            return self.note(f"part {sequence}: its trigger is published {event['copies']} times")
        return None

    def note(self, text: str) -> str:
        """Keep a line that people should see; gives it back."""
        self.notes.append(text)
        return text
