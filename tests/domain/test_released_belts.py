"""A gate that rests in the reject position: random belts against the same independent truth.

Here `switches` are the times in which the arm is sent to the reject position, or rests there. Every tenth part's trigger
is lost: nobody knows of it, and it must not pass.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.domain.belt_truth import MS, TruePart, met, swept_mm
from tests.domain.random_line import Line
from tests.domain.test_random_belts import slack_mm

BELTS = 1_000
SEED = 20261122


def free_mm(line: Line, part: TruePart) -> float:
    """The smallest gap to a neighbour."""
    others = [other for other in line.parts.values() if other is not part]
    return min(max(other.x0 - part.x0 - part.length, part.x0 - other.x0 - other.length) for other in others)


def needed_mm(line: Line) -> float:
    """The gap in which the arm can come back from one part and be fully open for the next, or the other way round."""
    settings = line.settings
    way_ms = max(settings.open_lead_ms + settings.close_lead_ms, settings.min_off_ms + settings.open_lead_ms)
    return 2 * settings.guard_mm + settings.length_tolerance_mm + (way_ms + 12.0) * line.top / 1e3 + slack_mm(line)


def check_reject(line: Line, part: TruePart) -> str:
    """Whatever was not let pass is met by an open gate: the unknown ones where there is room, the ordered ones always."""
    settings, told = line.settings, line.told
    if part.key in told.missed:
        return "missed"
    if part.key in line.untold and free_mm(line, part) < needed_mm(line):
        return "too near"
    front = part.x0 + settings.distance_mm
    grain_mm = 1.0 + 1.0 / line.cpm + (0.0 if line.profile == "even" else slack_mm(line))
    hit = met(line.belt, line.switches, front, part.length, settings.open_lead_ms * MS, stroke=False, slack_mm=grain_mm)
    assert hit, f"escape: {part}, {told.orders.get(part.key)}"
    return "untold" if part.key in line.untold else "rejected"


def check_let_pass(line: Line, part: TruePart) -> str:
    settings, told = line.settings, line.told
    clear_ns = settings.close_lead_ms * MS
    swept = swept_mm(line.belt, line.switches, part.x0 + settings.distance_mm, part.length, clear_ns)
    if part.key not in told.collateral:
        assert swept <= slack_mm(line), f"swept by {swept:.1f} mm and not told: {part}"
        return "passed"
    return "collateral" if swept else "collateral by a hair"


@pytest.mark.timeout(60)
def test_no_part_passes_without_a_release_of_its_own() -> None:
    fates: Counter[str] = Counter()
    for seed in range(SEED, SEED + BELTS):
        line = Line(seed, releases=True)
        try:
            line.run()
            for part in line.parts.values():
                passing = part.key not in line.told.rejected | line.untold
                fates[(check_let_pass if passing else check_reject)(line, part)] += 1
        except AssertionError as exc:
            raise AssertionError(f"belt {seed} ({line.source}, {line.profile}): {exc}") from exc
    total = sum(fates.values())
    assert fates["passed"] > 0.3 * total and fates["rejected"] > 0.3 * total and fates["untold"] > 0.02 * total, fates
    assert fates["missed"] < 0.1 * total, fates
