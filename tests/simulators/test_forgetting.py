"""A line that runs for weeks keeps its memory small: conveyor and PLC forget the old where no file asks for it."""

from __future__ import annotations

from pathlib import Path

from simulators.line.camera import Picture, ReplayCamera
from simulators.line.conveyor import Conveyor, Laying
from simulators.line.geometry import Geometry
from simulators.plc.record import PlcRecord
from simulators.plc.tables import BridgeResult

MS = 1_000_000


def test_the_conveyor_goes_on_as_before_after_forgetting() -> None:
    picture = Picture(path=Path("good/1.jpg"), label="good", name="good/1.jpg")

    def outcomes(*, forget: bool) -> tuple[list[str], int]:
        line = Conveyor(
            now_ns=0, camera=ReplayCamera([picture], good_labels=["good"]), geometry=Geometry(), laying=Laying()
        )
        line.start(0)
        seen, most = [], 0
        for now_ms in range(0, 60_000, 5):
            events, _ = line.update(now_ms * MS, gate_on=now_ms % 1000 < 400)
            seen += [event.kind for event in events]
            if forget:
                line.forget(keep=20)
            most = max(most, len(line.truths), len(line.gate.sweeps), len(line.gate.fully_open))
        return seen, most

    (all_kept, grown), (forgotten, small) = outcomes(forget=False), outcomes(forget=True)
    assert forgotten == all_kept
    assert {"binned", "passed", "swept"} <= set(forgotten)
    assert grown > 300
    assert small <= 20


def test_the_plc_keeps_the_newest() -> None:
    record = PlcRecord()
    for sequence in range(100):
        record.note_modbus(
            BridgeResult(sequence=sequence, verdict=1, disposition=1, open_count=0, close_count=0, flags=0), 0
        )
        record.note_opcua({"sequence": sequence})
        record.firings.append({"sequence": sequence})
    record.forget(keep=10)
    assert list(record.modbus) == list(record.opcua) == list(range(90, 100))
    assert [firing["sequence"] for firing in record.firings] == list(range(90, 100))
    record.forget(keep=10)
    assert len(record.modbus) == 10
