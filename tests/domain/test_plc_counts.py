"""A PLC's running counts: what is new in them, whichever of the two was started first."""

from __future__ import annotations

from bridge.domain.condition import Condition
from bridge.domain.messages import PlcCounts


def fired(condition: Condition, count: int, origin: str = "modbus") -> int:
    return condition.plc_counted(PlcCounts(origin=origin, gate_fired=count))[0]


def test_a_count_that_is_seen_at_zero_loses_nothing() -> None:
    condition = Condition()
    assert [fired(condition, count) for count in (0, 3, 3, 4)] == [0, 3, 0, 1]
    assert condition.counters.gate_fired == 4


def test_the_first_firing_counts_though_the_plc_never_wrote_a_zero() -> None:
    condition = Condition()
    assert fired(condition, 1) == 1
    condition = Condition()
    for _ in range(3):
        condition.ordered()
    assert fired(condition, 3) == 3


def test_the_count_of_a_plc_that_has_run_longer_only_opens_it() -> None:
    condition = Condition()
    assert [fired(condition, count) for count in (57, 58)] == [0, 1]


def test_a_restarted_plc_counts_on_and_the_u32_rolls_over() -> None:
    condition = Condition()
    assert [fired(condition, count) for count in (2**32 - 2, 1, 0, 1)] == [0, 3, 0, 1]


def test_the_unused_way_in_disturbs_nothing() -> None:
    condition = Condition()
    assert [fired(condition, 0), fired(condition, 5, "opcua"), fired(condition, 0), fired(condition, 6, "opcua")] == [
        0,
        0,
        0,
        1,
    ]


def test_confirmations_are_counted_like_firings() -> None:
    condition = Condition()
    assert condition.plc_counted(PlcCounts(origin="opcua", reject_confirm=0)) == (0, 0)
    assert condition.plc_counted(PlcCounts(origin="opcua", reject_confirm=2)) == (0, 2)
    assert condition.counters.gate_confirmed == 2
