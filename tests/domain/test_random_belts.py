"""Ten thousand random belts against an independent truth: no wrong part hit, no escape unreported.

The truth knows nothing of the plan: a belt is a list of stretches of even speed, the gate is open or it is not, and a
part is at the gate while the belt carries it past. A PLC fires by counts, or by moments the PLC or the gate process
with its `GateSchedule`. One belt alone: `Line(seed).run()`, the seed is in the message.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.domain.belt_truth import MS, TruePart, met, swept_mm
from tests.domain.random_line import NOT_FIRED, Line

BELTS = 10_000
SEED = 20261121


def slack_mm(line: Line) -> float:
    """What the bridge can't know: the counts' grain, and a speed that changes between two samples."""
    if line.profile == "even":
        return 2.5 + 0.001 * line.top
    return 4.0 + 0.012 * line.top


def too_near(line: Line, part: TruePart) -> bool:
    """Whether an ordered neighbour is nearer than the gate could be closed in between, the belt at its fastest."""
    settings, per_ms = line.settings, line.top / 1e3
    lead_ms = max(settings.open_lead_ms, settings.close_lead_ms, settings.min_off_ms) + settings.firing_jitter_ms
    if settings.kind == "pulse" or settings.open_lead_ms < settings.min_on_ms:
        lead_ms += max(settings.pulse_ms, settings.min_on_ms) / 2
    needed_mm = settings.length_tolerance_mm + settings.guard_mm + lead_ms * per_ms + slack_mm(line)
    others = [line.parts[key] for key in line.told.ordered]
    gaps = [max(other.x0 - part.x0 - part.length, part.x0 - other.x0 - other.length) for other in others]
    return any(gap < needed_mm for gap in gaps)


def check_reject(line: Line, part: TruePart) -> str:
    """Nobody escapes unreported, and nothing is reported missed without a cause."""
    settings, told = line.settings, line.told
    front = part.x0 + settings.distance_mm
    missed, stuck = part.key in told.missed, part.key in line.stuck
    if not (missed or stuck):
        lead_ns = settings.open_lead_ms * MS
        stroke, grain_mm = settings.kind == "pulse", 1.0 + 1.0 / line.cpm
        hit = met(line.belt, line.switches, front, part.length, lead_ns, stroke=stroke, slack_mm=grain_mm)
        assert hit, f"escape unreported: {part}, {told.orders[part.key]}"
    if missed and line.profile == "even":
        rested = told.missed[part.key] == NOT_FIRED  # the minimum off time left no room
        disturbed = part.hung or line.silent[1] or line.reset_ns
        assert rested or disturbed or settings.distance_mm < 0.2 * line.top, f"{part}: {told.missed[part.key]}"
    return "missed" if missed else "stuck" if stuck else "rejected"


def check_let_pass(line: Line, part: TruePart) -> str:
    """Nobody is swept unless told of, and nobody told of stands far from every reject."""
    settings, told = line.settings, line.told
    clear_ns = settings.close_lead_ms * MS
    swept = swept_mm(line.belt, line.switches, part.x0 + settings.distance_mm, part.length, clear_ns)
    if swept > slack_mm(line):
        # While samples are silent nobody sees what is swept; that a gate was fired blind is reported.
        blind = line.silent[1] and told.missed
        assert part.key in told.collateral or blind, f"swept by {swept:.1f} mm and not told: {part}"
        if line.profile == "even" and line.source != "encoder" and not line.silent[1]:
            assert part.key not in told.afterwards, f"told late: {part}"
    if part.key not in told.collateral:
        return "passed"
    assert line.silent[1] or too_near(line, part), f"told but far from any reject: {part}"
    return "collateral" if swept else "collateral by a hair"


def check(line: Line) -> Counter[str]:
    """Hold what was told against what was true; give the parts by what became of them."""
    told = line.told
    assert set(told.orders) == set(line.parts)
    assert not told.collateral & told.rejected
    return Counter(
        check_reject(line, part) if part.key in told.rejected else check_let_pass(line, part)
        for part in line.parts.values()
    )


@pytest.mark.timeout(180)
def test_ten_thousand_random_belts() -> None:
    tally: Counter[str] = Counter()
    for seed in range(SEED, SEED + BELTS):
        line = Line(seed)
        try:
            line.run()
            tally += check(line)
        except AssertionError as exc:
            raise AssertionError(f"belt {seed} ({line.source}, {line.settings.mode}, {line.profile}): {exc}") from exc
        tally["belts"] += 1
    assert tally["belts"] == BELTS
    assert tally["rejected"] > BELTS and tally["passed"] > BELTS
    assert tally["missed"] and tally["collateral"] and tally["stuck"]
