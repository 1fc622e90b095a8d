"""The machine vision state machines: how a station's real state walks it."""

from __future__ import annotations

from itertools import product

import pytest

from bridge.domain.status import StationState
from bridge.domain.vision_states import TRANSITIONS, Seen, VisionMachine, VisionState

S = VisionState
READY = Seen(state=StationState.READY, enabled=True, ready=True)
OFF = Seen(state=StationState.DISABLED, enabled=False, ready=False)
FAULT = Seen(state=StationState.FAULT, enabled=True, ready=False)
STARTING = Seen(state=StationState.STARTING, enabled=True, ready=False)
INHIBITED = Seen(state=StationState.DISABLED, enabled=True, ready=False)
RUNNING = VisionMachine(state=S.OPERATIONAL, automatic=S.CONTINUOUS_EXECUTION)
WAITING = VisionMachine(state=S.OPERATIONAL, automatic=S.READY, single=True)


def numbers(machine: VisionMachine, seen: Seen, cause: str = "") -> list[int]:
    return [each.number for each in machine.follow(seen, cause=cause)[1]]


@pytest.mark.parametrize(
    ("seen", "state", "automatic"),
    [
        (STARTING, S.PREOPERATIONAL, None),
        (READY, S.OPERATIONAL, S.CONTINUOUS_EXECUTION),
        (Seen(state=StationState.BUSY, enabled=True, ready=True), S.OPERATIONAL, S.CONTINUOUS_EXECUTION),
        (INHIBITED, S.OPERATIONAL, S.INITIALIZED),
        (OFF, S.HALTED, None),
        (Seen(state=StationState.FAULT, enabled=False, ready=False), S.HALTED, None),
        (Seen(state=StationState.STOPPING, enabled=True, ready=False), S.HALTED, None),
        (FAULT, S.ERROR, None),
        (Seen(state=StationState.READY, enabled=True, ready=True, stale=True), S.ERROR, None),
    ],
)
def test_the_machines_show_what_the_station_is_wherever_they_stood(
    seen: Seen, state: VisionState, automatic: VisionState | None
) -> None:
    for before in (VisionMachine(), RUNNING, *(VisionMachine(state=each) for each in (S.HALTED, S.ERROR))):
        machine, _ = before.follow(seen)
        assert (machine.state, machine.automatic) == (state, automatic), before


@pytest.mark.parametrize(
    ("before", "seen", "cause", "expected"),
    [
        (VisionMachine(), READY, "", [140, 560, 680]),
        (RUNNING, READY, "", []),
        (RUNNING, OFF, "", [420]),
        (RUNNING, OFF, "Halt", [421]),
        (RUNNING, FAULT, "", [430]),
        (RUNNING, INHIBITED, "", [860, 650]),
        (VisionMachine(state=S.HALTED), READY, "", [210, 140, 560, 680]),
        (VisionMachine(state=S.HALTED), READY, "Reset", [211, 140, 560, 680]),
        (VisionMachine(state=S.ERROR), READY, "", [340, 560, 680]),
        (VisionMachine(state=S.ERROR), OFF, "Halt", [321]),
        (VisionMachine(state=S.PREOPERATIONAL), FAULT, "", [130]),
        (VisionMachine(state=S.OPERATIONAL, automatic=S.INITIALIZED), READY, "PrepareRecipe", [561, 680]),
    ],
)
def test_changes_go_by_the_table(before: VisionMachine, seen: Seen, cause: str, expected: list[int]) -> None:
    assert numbers(before, seen, cause) == expected


def test_every_walk_is_a_chain_and_the_automatic_mode_ends_with_operational() -> None:
    for before, seen in product(
        (VisionMachine(), RUNNING, WAITING, VisionMachine(state=S.HALTED)), (READY, OFF, FAULT)
    ):
        machine, taken = before.follow(seen)
        top = [each for each in taken if not each.automatic_mode]
        assert [each.before for each in top[1:]] == [each.after for each in top[:-1]]
        assert (machine.automatic is None) == (machine.state is not S.OPERATIONAL)
        assert machine.follow(seen) == (machine, ())


@pytest.mark.parametrize(
    ("machine", "allowed"),
    [
        (VisionMachine(), {"Halt", "SelectModeAutomatic"}),
        (VisionMachine(state=S.HALTED), {"Reset"}),
        (VisionMachine(state=S.ERROR), {"Halt", "Reset"}),
        (VisionMachine(state=S.OPERATIONAL, automatic=S.INITIALIZED), {"Halt", "Reset", "PrepareRecipe"}),
        (RUNNING, {"Halt", "Reset", "Stop", "Abort"}),
        (WAITING, {"Halt", "Reset", "StartSingleJob", "StartContinuous"}),
        (
            VisionMachine(state=S.OPERATIONAL, automatic=S.SINGLE_EXECUTION, single=True),
            {"Halt", "Reset", "Stop", "Abort"},
        ),
    ],
)
def test_methods_are_allowed_where_the_table_has_them(machine: VisionMachine, allowed: set[str]) -> None:
    methods = {each.cause for each in TRANSITIONS if each.cause}
    assert {method for method in methods if machine.allows(method)} == allowed


def test_after_stop_each_part_is_a_single_execution_until_start_continuous() -> None:
    executing = Seen(state=StationState.BUSY, enabled=True, ready=True, executing=True)
    called = RUNNING.call("Stop")
    assert called is not None
    assert called[1].number == 861
    machine, taken = called[0].follow(READY)
    assert (machine, taken) == (WAITING, ())
    machine, (taken_up,) = machine.follow(executing)
    assert (machine.automatic, taken_up.number) == (S.SINGLE_EXECUTION, 670)
    machine, (done,) = machine.follow(READY)
    assert (machine.automatic, done.number) == (S.READY, 760)
    continued = machine.call("StartContinuous")
    assert continued is not None
    assert (continued[0], continued[1].number) == (RUNNING, 681)


def test_a_station_that_comes_back_takes_the_lines_triggers_again() -> None:
    machine, _ = WAITING.follow(FAULT)
    assert machine.follow(READY)[0] == RUNNING
