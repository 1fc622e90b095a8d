"""Results and statuses for the tests of the outputs."""

from __future__ import annotations

from dataclasses import replace

from bridge.domain.gate import GateOrder
from bridge.domain.part import Part, Result, Trigger
from bridge.domain.recipe import Recipe
from bridge.domain.status import Counters, StationState, StationStatus
from bridge.domain.verdict import Disposition, Judgement, VerdictCode
from bridge.ports import Outcome

RECIPE = Recipe(
    name="bracket-a", number=7, revision=3, bundle="surface-1.2.0", labels=("ok", "crack"), good_labels=("ok",)
)
MS = 1_000_000
DECIDED_UTC_NS = 1_795_000_000_123_456_000

READY = StationStatus(
    state=StationState.READY, online=True, ready=True, busy=False, error=False, recipe_ok=True, degraded=False,
    plc_heartbeat_lost=False, stop_request=False, gate_unguarded=False, clock_ok=True, heartbeat=70_001, error_code=24,
    error_text="SEQUENCE_RESTARTED: again", recipe="bracket-a@3", recipe_number=7, model="surface@1.2.0", model_sha256="ab" * 32,
    belt_speed_mm_s=1200.4,
    counters=Counters(triggers=100_000, passed=70_000, failed=20_000, uncertain=5_000, error=3_000, late=1_999,
                      missed_triggers=11, duplicate_triggers=12, gate_fired=13, gate_missed=14, gate_confirmed=15, collateral=16),
    last_sequence=123_457, firing_error_ms=-0.35,
)  # fmt: skip

ORDERED = GateOrder(
    state="ordered", open_count=462_639, close_count=463_939, due_ns=5_441 * MS, open_ns=5_481 * MS, window_ms=108.33
)


def result(
    sequence: int = 123_456,
    *,
    code: VerdictCode = VerdictCode.FAIL,
    order: GateOrder = ORDERED,
    replayed: bool = False,
    decided_ns: int = 5_006 * MS,
    score: float | None = 0.93,
    label: str | None = "crack",
) -> Result:
    """A judged part that was triggered at monotonic 5 s and decided 6 ms later."""
    part = Part(
        line="line1",
        station="station1",
        trigger=Trigger(sequence=sequence, part_id=f"A-{sequence:06d}", arrived_ns=5_000 * MS),
        epoch=1,
        triggered_ns=5_000 * MS,
        triggered_utc_ns=DECIDED_UTC_NS - 6 * MS,
        length_mm=100.0,
        recipe=RECIPE,
    )
    passes = code is VerdictCode.PASS
    return Result(
        part=part,
        judgement=Judgement(code=code, reason=f"{label} {score}", label=label, label_id=2 if label else 0, score=score),
        disposition=Disposition.LET_PASS if passes else Disposition.REJECT,
        order=order,
        captured_utc_ns=DECIDED_UTC_NS - 5 * MS,
        decided_ns=decided_ns,
        decided_utc_ns=DECIDED_UTC_NS,
        timing_ms={"total": 6.0},
        model="surface@1.2.0",
        model_sha256="ab" * 32,
        replayed=replayed,
    )


def outcome(sequence: int = 123_456, *, code: VerdictCode = VerdictCode.FAIL, replayed: bool = False) -> Outcome:
    """An outcome whose document names the sequence; a PASS has no order."""
    order = GateOrder() if code is VerdictCode.PASS else ORDERED
    judged = result(sequence, code=code, order=order, replayed=replayed)
    return Outcome(result=judged, document=f'{{"sequence": {sequence}}}')


def status(**changes: object) -> StationStatus:
    """Give the ready station with some fields changed."""
    return replace(READY, **changes)  # type: ignore[arg-type]
