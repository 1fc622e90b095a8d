"""Runs of verdicts, challenge tests, parts that touch and inhibits: what each alarms, and what ends it."""

from __future__ import annotations

import pytest

from bridge.domain.belt import Belt, BeltSettings
from bridge.domain.challenge import NS_PER_H, ChallengeTest
from bridge.domain.condition import Condition
from bridge.domain.guards import GuardSettings
from bridge.domain.messages import Inhibit, LinkChange, PlcBeat
from bridge.domain.part import Trigger
from bridge.domain.reception import Admission, Conditions, Reception, ReceptionRules
from bridge.domain.recipe import Recipe
from bridge.domain.sequence import SequenceLedger
from bridge.domain.verdict import Disposition, Judgement, VerdictCode

MS = 1_000_000
RECIPE = Recipe(name="bracket", number=1, revision=3, bundle="fake", labels=("crack",))
LETTERS = {
    "p": VerdictCode.PASS,
    "f": VerdictCode.FAIL,
    "u": VerdictCode.UNCERTAIN,
    "e": VerdictCode.ERROR,
    "l": VerdictCode.LATE,
    "i": VerdictCode.ERROR,  # inhibited
    "b": VerdictCode.LATE,  # of a backlog
}


def judged(verdicts: str, guards: GuardSettings) -> Condition:
    """Give the condition of a station that would be ready, after these verdicts."""
    condition = Condition(guards=guards)
    condition.activate(RECIPE, "fake@1.0.0", "00")
    condition.mqtt_up = True
    for letter in verdicts:
        code = LETTERS[letter]
        judgement = Judgement(code=code, reason=f"because {letter}", withheld=letter == "i")
        condition.decided("A", judgement, rejects=code is not VerdictCode.PASS, replayed=letter == "b")
    return condition


@pytest.mark.parametrize(
    ("verdicts", "alarms"),
    [
        ("ffff", set()),
        ("fffff", {"CONSECUTIVE_REJECTS"}),
        ("fuufu", {"CONSECUTIVE_REJECTS"}),
        ("ffffpffff", set()),
        ("ee", set()),
        ("ele", {"CONSECUTIVE_FAILURES"}),
        ("eefee", {"CONSECUTIVE_REJECTS"}),
        ("eepee", set()),
        ("iiiiiiii", set()),
        ("bbbbbbbb", set()),
        ("eiiel", {"CONSECUTIVE_FAILURES"}),
        ("lllll", {"CONSECUTIVE_FAILURES", "CONSECUTIVE_REJECTS"}),
        ("eeepppp", {"CONSECUTIVE_FAILURES"}),
    ],
)
def test_a_run_drops_ready_until_it_is_cleared(verdicts: str, alarms: set[str]) -> None:
    condition = judged(verdicts, GuardSettings(max_consecutive_rejects=5, max_consecutive_failures=3))
    assert {name for name in condition.alarms.standing if name.startswith("CONSECUTIVE")} == alarms
    status = condition.status(belt_speed_mm_s=1200.0)
    assert (status.ready, status.degraded) == (not alarms, bool(alarms))
    assert {reason.partition(":")[0] for reason in status.not_ready} == alarms
    assert not status.stop_request
    condition.clear_error()
    assert condition.status(belt_speed_mm_s=1200.0).ready
    for _each in range(4):
        condition.decided("A", Judgement(code=VerdictCode.FAIL, reason=""), rejects=True, replayed=False)
    assert condition.status(belt_speed_mm_s=1200.0).ready, "the count began anew"


def test_zero_is_off() -> None:
    guards = GuardSettings(max_consecutive_rejects=0, max_consecutive_failures=0)
    assert judged("e" * 50, guards).status(belt_speed_mm_s=1200.0).ready


def test_a_run_is_named_in_the_error_text() -> None:
    status = judged("eee", GuardSettings(max_consecutive_failures=3)).status(belt_speed_mm_s=1200.0)
    assert (status.error_code, status.error_text) == (
        38,
        "CONSECUTIVE_FAILURES: 3 ERROR or LATE in a row: because e",
    )


def test_an_inhibit_is_named_as_long_as_it_stands_and_as_it_changes() -> None:
    condition = judged("", GuardSettings())
    for bits, named in ((1, "bin full"), (3, "bin full, air low"), (4, "line stopped")):
        condition.inhibited(Inhibit(bits=bits))
        status = condition.status(belt_speed_mm_s=1200.0)
        assert (status.error_code, status.error_text) == (43, f"INHIBITED: {named}")
        assert status.inhibited == tuple(named.split(", "))
        assert status.not_ready == (f"inhibited: {named}",)
        assert (status.state, status.ready) == ("DISABLED", False)
    condition.inhibited(Inhibit(bits=0))
    status = condition.status(belt_speed_mm_s=1200.0)
    assert (status.ready, status.error_text, status.inhibited) == (True, "", ())
    assert [change.raised for change in condition.changes() if change.kind.name == "INHIBITED"] == [True, False] * 3


@pytest.mark.parametrize("mode", ["plc", "bridge"])
def test_a_lost_heartbeat_says_who_guards_the_gate(mode: str) -> None:
    condition = Condition(gate_mode=mode)  # type: ignore[arg-type]
    condition.plc_beat(PlcBeat(value=1, at_ns=0))
    condition.watch_plc(2_000 * MS)
    status = condition.status(belt_speed_mm_s=1200.0)
    assert status.error_text.startswith("PLC_HEARTBEAT_LOST: the PLC's heartbeat has stood still for 2 s")
    assert ("nobody guards the gate" in status.error_text) == (mode == "plc")
    assert LinkChange(link="mqtt", up=True).up


@pytest.mark.parametrize(("mode", "unguarded"), [("plc", False), ("bridge", True)])
def test_a_dry_run_is_degraded_from_the_start_and_for_good(mode: str, unguarded: bool) -> None:
    condition = Condition(gate_mode=mode, guards=GuardSettings(dry_run=True))  # type: ignore[arg-type]
    condition.plc_beat(PlcBeat(value=1, at_ns=0))
    condition.clear_error()
    status = condition.status(belt_speed_mm_s=1200.0)
    assert (status.dry_run, status.degraded, status.gate_unguarded) == (True, True, unguarded)
    assert "DRY_RUN" in condition.alarms.standing


# ---- challenge tests -------------------------------------------------------------------------------------------------

KEY = (1, 7)
FAIL = Judgement(code=VerdictCode.FAIL, reason="crack 0.93 >= 0.50")


def announced(**part: object) -> ChallengeTest:
    test = ChallengeTest(hours=8.0)
    test.announce(**part)  # type: ignore[arg-type]
    return test


def test_only_the_bin_passes_a_test() -> None:
    test = announced()
    assert test.state == "announced"
    assert test.met(KEY, "A")
    assert not test.met((1, 8), "B"), "one part only"
    assert test.decided(KEY, FAIL, Disposition.REJECT) == ""
    assert (test.state, test.due(5)) == ("under way", True)
    assert test.confirmed(KEY, 5)
    assert (test.state, test.passed_utc_ns, test.due(5)) == ("passed", 5, False)
    assert test.due(6 + 8 * NS_PER_H)
    assert not test.confirmed(KEY, 9)


@pytest.mark.parametrize(
    ("code", "disposition"),
    [
        (VerdictCode.PASS, Disposition.LET_PASS),
        (VerdictCode.ERROR, Disposition.REJECT),
        (VerdictCode.LATE, Disposition.REJECT),
        (VerdictCode.UNCERTAIN, Disposition.LET_PASS),
        (VerdictCode.FAIL, Disposition.NONE),
    ],
)
def test_what_does_not_reject_by_verdict_fails_the_test(code: VerdictCode, disposition: Disposition) -> None:
    test = announced()
    test.met(KEY, "A")
    reason = test.decided(KEY, Judgement(code=code, reason="so"), disposition)
    assert reason.startswith("A: ")
    assert code.name in reason
    assert test.state == "failed"
    assert not test.confirmed(KEY, 5), "what the bin says later mends nothing"
    assert test.due(5)


def test_a_part_that_never_reaches_the_bin_fails_the_test_once() -> None:
    test = announced()
    test.met(KEY, "A")
    test.decided(KEY, FAIL, Disposition.REJECT)
    assert test.failed((1, 8), "other") == ""
    assert test.failed(KEY, "it was not seen in the reject bin") == "A: it was not seen in the reject bin"
    assert test.failed(KEY, "again") == ""


@pytest.mark.parametrize(
    ("part", "met"),
    [
        ({}, True),
        ({"part_id": "A"}, True),
        ({"part_id": "B"}, False),
        ({"sequence": 7}, True),
        ({"sequence": 8}, False),
    ],
)
def test_a_named_part_is_waited_for(part: dict[str, object], met: bool) -> None:
    test = announced(**part)
    assert test.met(KEY, "A") == met
    assert test.state == ("under way" if met else "announced")


def test_no_hours_is_never_due() -> None:
    assert not ChallengeTest().due(10**20)


# ---- parts that touch ------------------------------------------------------------------------------------------------


def admitted(belt: Belt | None = None, tolerance_mm: float = 20.0, reason: str = "", **trigger: object) -> Admission:
    rules = ReceptionRules(
        line="line1",
        station="station1",
        trigger_clock="arrival",
        transport_ms=0.0,
        part_length_mm=100.0,
        touching_tolerance_mm=tolerance_mm,
    )
    reception = Reception(rules=rules, ledger=SequenceLedger(), belt=belt or Belt(BeltSettings()))
    facts = {"sequence": 1, "part_id": "A", "arrived_ns": 1000 * MS, **trigger}
    conditions = Conditions(recipe=RECIPE, reason=reason)
    return reception.admit(Trigger(**facts), conditions, now_ns=1000 * MS, now_utc_ns=0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("measured", "tolerance_mm", "length_mm", "touch"),
    [
        ({"length_mm": 120.0}, 20.0, 120.0, False),
        ({"length_mm": 121.0}, 20.0, 121.0, True),
        ({"length_mm": 400.0}, 0.0, 400.0, False),
        ({"length_mm": 50.0}, 20.0, 50.0, False),
        ({"eye_on_ms": 100.0}, 20.0, 120.0, False),
        ({"eye_on_ms": 175.0}, 20.0, 210.0, True),
        ({"eye_on_ms": 1.0}, 20.0, 100.0, False),
        ({"eye_on_ms": 175.0, "length_mm": 100.0}, 20.0, 100.0, False),
        ({}, 20.0, 100.0, False),
    ],
)
def test_what_is_longer_than_a_part_is_two(
    measured: dict[str, float], tolerance_mm: float, length_mm: float, touch: bool
) -> None:
    admission = admitted(tolerance_mm=tolerance_mm, **measured)
    assert admission.part is not None
    assert admission.part.length_mm == pytest.approx(length_mm), "what the gate must cover"
    assert bool(admission.touching) == touch
    if touch:
        assert admission.at_once is not None
        assert admission.at_once.code is VerdictCode.ERROR
        assert admission.at_once.reason == f"parts touch: {length_mm:.0f} mm at the photo-eye, a part is 100 mm"
    else:
        assert admission.at_once is None


def test_the_eyes_time_counts_by_how_far_the_belt_ran() -> None:
    belt = Belt(BeltSettings(speed_source="mqtt"))
    belt.speed_sample(1200.0, 0)
    belt.speed_sample(0.0, 950 * MS)
    belt.speed_sample(0.0, 1000 * MS)
    admission = admitted(belt, eye_on_ms=5000.0, age_ms=100.0)
    assert admission.part is not None
    assert (admission.part.length_mm, admission.touching) == (100.0, ""), "it stood under the eye"


@pytest.mark.parametrize(("length_mm", "touch"), [(100, False), (200, True)])
def test_a_latched_count_says_since_when_the_beam_was_held_though_the_trigger_left_as_it_cleared(
    length_mm: int, touch: bool
) -> None:
    # The belt comes to a stand with the part in the beam and starts again after 2 s; the trigger leaves behind the rear edge.
    belt, places_mm = Belt(BeltSettings(speed_source="encoder")), [0.0]
    for at_ms in range(3000):
        standing = min(1.0, max(0.0, (at_ms - 500) / 100)) - min(1.0, max(0.0, (at_ms - 2600) / 100))
        places_mm.append(places_mm[-1] + 1.2 * (1.0 - standing))
    front_ms = 480
    rear_ms = next(ms for ms, mm in enumerate(places_mm) if mm >= places_mm[front_ms] + length_mm)
    for at_ms in range(0, rear_ms, 10):
        belt.encoder_sample(round(10 * places_mm[at_ms]), at_ms * MS)
    count = round(10 * places_mm[front_ms])
    admission = admitted(belt, encoder_counts=count, eye_on_ms=float(rear_ms - front_ms), arrived_ns=rear_ms * MS)
    assert rear_ms > 2600
    assert admission.part is not None
    assert admission.part.length_mm == pytest.approx(length_mm, abs=5.0)
    assert bool(admission.touching) == touch


def test_a_length_of_an_unknown_belt_is_none() -> None:
    admission = admitted(Belt(BeltSettings(speed_source="mqtt")), eye_on_ms=175.0)
    assert admission.part is not None
    assert (admission.part.length_mm, admission.touching) == (100.0, "")


@pytest.mark.parametrize("problem", [None, "trigger while not ready"])
def test_an_inhibit_is_the_reason_whatever_else_is_wrong(problem: str | None) -> None:
    admission = admitted(reason="inhibited: bin full", length_mm=400.0, problem=problem)
    assert admission.at_once is not None
    assert admission.at_once.reason == "; ".join(filter(None, (problem, "inhibited: bin full")))
    assert admission.at_once.withheld
