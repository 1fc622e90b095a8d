"""What the simulated PLC keeps of its run."""

from __future__ import annotations

from pathlib import Path

from simulators.plc.core import ScanOutputs
from simulators.plc.record import PlcRecord, read_plc_record


def test_the_plc_tells_when_it_missed_a_scan(tmp_path: Path) -> None:
    record, nothing = PlcRecord(scan_ms=10.0), ScanOutputs(gate=False, fired=0)
    for at_ms in (0, 10, 21, 40, 61, 71):
        record.note_scan(at_ms * 1_000_000, nothing)
    assert record.overruns == [(40_000_000, 61_000_000)]

    record.write(tmp_path / "plc.json")
    killed = PlcRecord()
    killed.note_told({"event": "overrun", "from_ns": 1, "to_ns": 2})
    assert read_plc_record(tmp_path / "plc.json").follows(killed).overruns == [(1, 2), (40_000_000, 61_000_000)]
