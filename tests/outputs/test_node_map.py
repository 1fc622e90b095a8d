"""The node map's sections: what each of them reads of a view is all that its values depend on."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import permutations

from bridge.domain.gate import GateOrder
from bridge.domain.status import ChallengeShown, Counters, StationState, StationStatus
from bridge.domain.verdict import VerdictCode
from bridge.outputs.plc.node_map import NODES, SECTIONS, source_of, value_of
from bridge.outputs.plc.view import EMPTY_RING, RING_SLOTS, PlcView, Shown
from tests.outputs.samples import ORDERED, READY, result, status


def _views() -> list[PlcView]:
    """Give views that differ from one another in one thing at a time, and in all that a result brings."""
    judged = Shown(result=result(), order=ORDERED, document="{}")
    another = Shown(result=result(2, code=VerdictCode.PASS), order=GateOrder(), document="[]")
    standing = PlcView(status=READY, shown=judged, newest=judged, valid=True, live=True, written=1)
    of_view: dict[str, object] = {
        "stale": True, "trigger_ack": True, "missed_trigger": True, "overrun": True, "shown": another, "newest": another,
        "valid": False, "live": False, "written": 2, "accepted_sequence": 9, "ring": (1,) * len(EMPTY_RING),
        "slots": (judged,) * RING_SLOTS, "open_lead_ms": 1.0, "close_lead_ms": 1.0,
    }  # fmt: skip
    assert of_view.keys() == {each.name for each in fields(PlcView) if each.init} - {"status"}
    views = [PlcView(), standing, *(replace(standing, **{key: value}) for key, value in of_view.items())]  # type: ignore[arg-type]
    for each in fields(StationStatus):
        held = getattr(READY, each.name)
        other: dict[type, object] = {
            bool: held is False, int: 4_711, str: "another", float: 0.5, tuple: ("another",), StationState: StationState.FAULT,
            Counters: Counters(triggers=4_711), ChallengeShown: ChallengeShown(due=True),
        }  # fmt: skip
        views.append(replace(standing, status=status(**{each.name: other[type(held)]})))
    return views


def test_a_section_whose_input_stays_the_same_has_the_same_values() -> None:
    changed: set[str] = set()
    for before, after in permutations(_views(), 2):
        for section in SECTIONS:
            for spec in section.nodes:
                shown = [(*value_of(spec, view, now_ns=0), source_of(spec, view)) for view in (before, after)]
                if shown[0] != shown[1]:
                    changed.add(f"{spec.group}.{spec.name}")
                    assert section.reads(before) != section.reads(after), f"{spec.group}.{spec.name}"
    assert changed >= {f"{each.group}.{each.name}" for each in NODES if not each.clock}, (
        "each value changes by something"
    )
