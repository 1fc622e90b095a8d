"""Faults files: what they mean and how their mistakes are named."""

from __future__ import annotations

import itertools
from dataclasses import fields
from pathlib import Path

import pytest

from simulators.fault_kinds import KINDS, BeltStop, Burst, ClockWrong, DuplicateTrigger, MissingTrigger, lasts_s
from simulators.faults import SHIPPED, FaultFileError, FaultSchedule, ScheduledFault, fault_file, read_faults


def faults_file(folder: Path, text: str) -> Path:
    path = folder / "faults.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_shipped_file_has_one_of_each_kind_each_over_before_the_next() -> None:
    planned = read_faults(fault_file("all"))

    assert {entry.fault.kind for entry in planned} == set(KINDS)
    for entry, after in itertools.pairwise(planned):
        assert entry.at_s is not None
        assert after.at_s is not None
        assert entry.at_s + lasts_s(entry.fault) <= after.at_s - 1.0 or entry.fault.victim == "part"


def test_a_name_alone_is_a_shipped_file_and_a_file_is_itself(tmp_path: Path) -> None:
    assert fault_file("basic") == SHIPPED / "basic.toml"
    assert {entry.fault.kind for entry in read_faults(fault_file("basic"))} < set(KINDS)
    assert fault_file("mine.toml") == Path("mine.toml")
    assert fault_file(str(tmp_path / "mine")) == tmp_path / "mine"
    with pytest.raises(FaultFileError, match="shipped are all, basic"):
        fault_file("basics")


def test_numbers_are_held_to_their_key_s_limits(tmp_path: Path) -> None:
    text = (
        '[[fault]]\nkind = "clock_wrong"\nat_s = 1\nduration_s = 2\noffset_s = -3.5\n'
        '[[fault]]\nkind = "burst"\nat_part = 2\nparts = 4\nspacing_mm = 130\n'
    )

    assert [entry.fault for entry in read_faults(faults_file(tmp_path, text))] == [
        ClockWrong(duration_s=2.0, offset_s=-3.5),
        Burst(parts=4, spacing_mm=130.0),
    ]


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
        ('[[fault]]\nkind = "plc_restart"\nat_s = 1\ndown_s = -1', ["down_s = -1", "from 0 to 3600"]),
        ('[[fault]]\nkind = "burst"\nat_s = 1\nparts = 2\nspacing_mm = 90', ["spacing_mm = 90", "from 101"]),
        ('[[fault]]\nkind = "burst"\nat_s = 1\nparts = 2.5\nspacing_mm = 130', ["parts = 2.5", "a whole number"]),
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


def test_the_documentation_has_every_kind_with_every_key() -> None:
    page = (SHIPPED.parent.parent / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line.split("|")[1] for line in page.splitlines() if line.startswith("| `")}

    for kind, cls in KINDS.items():
        keys = [key.split()[0] for key in rows[kind].split("`")[2].split(",") if key.strip()]
        assert sorted(keys) == sorted(field.name for field in fields(cls)), kind
