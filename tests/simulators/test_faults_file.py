"""Faults files: what they mean and how their mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

import simulators
from simulators.faults import (
    KINDS,
    BeltStop,
    DuplicateTrigger,
    FaultFileError,
    FaultSchedule,
    MissingTrigger,
    ScheduledFault,
    read_faults,
)


def faults_file(folder: Path, text: str) -> Path:
    path = folder / "faults.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_file_has_one_of_each_kind() -> None:
    path = Path(simulators.__file__).parent / "faults" / "basic.toml"

    assert {entry.fault.kind for entry in read_faults(path)} == set(KINDS)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (
            '[[fault]]\nkind = "belt_stopp"\nat_s = 1',
            ["fault 1", "'belt_stopp'", "did you mean 'belt_stop'", "speed_ramp"],
        ),
        (
            '[[fault]]\nkind = "belt_stop"\nat_s = 1\nduration = 2',
            ["unknown key 'duration'", "did you mean 'duration_s'"],
        ),
        ('[[fault]]\nkind = "belt_stop"\nat_s = 1', ["duration_s is missing"]),
        ('[[fault]]\nkind = "belt_stop"\nduration_s = 1', ["exactly one of at_s and at_part"]),
        ('[[fault]]\nkind = "belt_stop"\nduration_s = 1\nat_s = 1\nat_part = 2', ["exactly one of at_s and at_part"]),
        ('[[fault]]\nkind = "missing_trigger"\nat_part = 0', ["at_part = 0", "a whole number from 1"]),
        ('[[fault]]\nkind = "missing_trigger"\nat_part = true', ["at_part = True"]),
        ('[[fault]]\nkind = "belt_stop"\nduration_s = "long"\nat_s = 1', ["duration_s = 'long'", "a number from 0"]),
        ('[[fault]]\nkind = "belt_stop"\nduration_s = nan\nat_s = 1', ["duration_s = nan"]),
        ("[[faults]]\nkind = 1", ["unknown key 'faults'", "[[fault]]"]),
        ("fault = 3", ["[[fault]] tables"]),
        ("[[fault]", ["not TOML"]),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(tmp_path: Path, text: str, named: list[str]) -> None:
    with pytest.raises(FaultFileError) as caught:
        read_faults(faults_file(tmp_path, text))

    for words in named:
        assert words in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FaultFileError, match=r"nothing\.toml"):
        read_faults(tmp_path / "nothing.toml")


def test_each_fault_is_handed_out_once_and_when_due() -> None:
    stop, lost, double = BeltStop(duration_s=1.0), MissingTrigger(), DuplicateTrigger()
    schedule = FaultSchedule(
        [
            ScheduledFault(fault=stop, at_s=2.0),
            ScheduledFault(fault=lost, at_part=3),
            ScheduledFault(fault=double, at_s=1.0),
        ]
    )

    assert schedule.next_s == 2.0
    assert schedule.due_by(1.9) == []
    assert schedule.due_at(2, 0.5) == []
    assert schedule.due_at(2, 1.5) == [double]
    assert schedule.due_at(3, 1.6) == [lost]
    assert schedule.due_at(3, 1.6) == []
    assert schedule.due_by(2.0) == [stop]
    assert schedule.next_s is None
