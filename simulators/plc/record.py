"""What the PLC saw and did, written as one JSON file at its end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from simulators.plc.core import ScanOutputs
from simulators.plc.tables import STOP_REQUEST_BIT, BridgeResult, LiveBlock

SCANS_FOR_AN_OVERRUN = 2


class PlcRecordError(Exception):
    """A PLC record that can't be read; the text names it."""


@dataclass(slots=True, kw_only=True)
class PlcRecord:
    """Keyed by sequence: what was read by Modbus and by OPC UA, and when (monotonic ns); what was decided and fired.

    `counters` are the bridge's as last read. `gate_error_mm` is |on-command - due| x speed of each firing. `overruns` are
    the times (from, to, monotonic ns) in which a scan that was due was missed: nothing was read or switched in them.
    """

    scan_ms: float = 10.0

    modbus: dict[int, dict[str, Any]] = field(default_factory=dict)
    opcua: dict[int, dict[str, Any]] = field(default_factory=dict)
    decisions: dict[int, dict[str, Any]] = field(default_factory=dict)
    firings: list[dict[str, Any]] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    overruns: list[tuple[int, int]] = field(default_factory=list)
    stop_requested: bool = False
    overrun: int = 0
    scans: int = 0
    longest_gap_ms: float = 0.0
    longest_read_ms: float = 0.0
    cpu_share: float = 0.0
    remarks: list[str] = field(default_factory=list)
    _last_scan_ns: int | None = None

    @property
    def gate_errors_mm(self) -> list[float]:
        """How far the belt was from the due place at each on-command, in mm."""
        return [abs(f["error_ms"]) * f["speed_mm_s"] / 1e3 for f in self.firings if f["error_ms"] is not None]

    def note_scan(self, now_ns: int, outputs: ScanOutputs) -> None:
        """Note what one scan did, and whether one before it was missed."""
        self.scans += 1
        if self._last_scan_ns is not None:
            gap_ms = (now_ns - self._last_scan_ns) / 1e6
            self.longest_gap_ms = max(self.longest_gap_ms, gap_ms)
            if gap_ms >= SCANS_FOR_AN_OVERRUN * self.scan_ms:
                self.overruns.append((self._last_scan_ns, now_ns))
        self._last_scan_ns = now_ns
        for decision in outputs.decisions:
            self.decisions[decision.sequence] = asdict(decision)
        self.firings.extend(asdict(firing) for firing in outputs.firings)

    def note_modbus(self, result: BridgeResult, read_ns: int) -> None:
        """Note a result read by Modbus."""
        self.modbus.setdefault(result.sequence, {**asdict(result), "read_ns": read_ns})

    def note_opcua(self, event: Mapping[str, Any]) -> None:
        """Note a result that the OPC UA client told of."""
        self.opcua.setdefault(event["sequence"], dict(event))

    def note_told(self, event: Mapping[str, Any]) -> None:
        """Note what a PLC told of on its way: all that one leaves which is killed."""
        facts = {key: value for key, value in event.items() if key != "event"}
        if event["event"] == "modbus_result":
            self.modbus.setdefault(event["sequence"], {**facts, "read_ns": event["at_ns"]})
        elif event["event"] == "opcua_result":
            self.note_opcua(event)
        elif event["event"] == "decision":
            self.decisions[event["sequence"]] = facts
        elif event["event"] == "fired":
            self.firings.append({**facts, "speed_mm_s": event["mm_s"]})
        elif event["event"] == "overrun":
            self.overruns.append((event["from_ns"], event["to_ns"]))
        elif event["event"] == "stop_request":
            self.stop_requested = self.stop_requested or event["on"]

    def follows(self, earlier: PlcRecord) -> PlcRecord:
        """Give the record with what an earlier run of the PLC read, decided and fired."""
        last_ns = min((firing["at_ns"] for firing in self.firings), default=None)
        before = [f for f in earlier.firings if last_ns is None or f["at_ns"] < last_ns]
        return replace(
            self,
            modbus={**self.modbus, **earlier.modbus},
            opcua={**self.opcua, **earlier.opcua},
            decisions={**earlier.decisions, **self.decisions},
            firings=[*before, *self.firings],
            overruns=[*earlier.overruns, *self.overruns],
            stop_requested=self.stop_requested or earlier.stop_requested,
        )

    def note_live(self, live: LiveBlock, *, overrun: int) -> None:
        """Note the bridge's counters and its request to stop."""
        self.counters = live.counters
        self.stop_requested = self.stop_requested or live.bit(STOP_REQUEST_BIT)
        self.overrun = overrun

    def forget(self, *, keep: int) -> None:
        """Keep only the newest entries of each kind: for a PLC that runs for weeks and has no file to fill."""
        for entries in (self.modbus, self.opcua, self.decisions):
            for sequence in list(entries)[:-keep]:
                del entries[sequence]
        del self.firings[:-keep]
        del self.overruns[:-keep]
        del self.remarks[:-keep]

    def write(self, path: Path) -> None:
        """Write the record, whole or not at all."""
        document = {key: value for key, value in asdict(self).items() if not key.startswith("_")}
        partial = path.with_name(path.name + ".part")
        partial.write_text(json.dumps(document), encoding="utf-8")
        partial.replace(path)


def read_plc_record(path: Path) -> PlcRecord:
    """Read what `PlcRecord.write` wrote; raises PlcRecordError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        for key in ("modbus", "opcua", "decisions"):
            document[key] = {int(sequence): entry for sequence, entry in document[key].items()}
        document["overruns"] = [(start, end) for start, end in document["overruns"]]
        return PlcRecord(**document)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise PlcRecordError(f"the PLC's record {path} can't be read: {exc}") from exc
