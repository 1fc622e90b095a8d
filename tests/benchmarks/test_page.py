"""The page says what was measured: ratios to the better floor, aims that were missed, a machine that was not quiet."""

from __future__ import annotations

import math
from pathlib import Path

from benchmarks.compare import Comparison, Measured, ratios, section
from benchmarks.figures import Aim, Findings, Setup, quantile
from benchmarks.gate import PlcErrors
from benchmarks.gate import section as gate_section
from benchmarks.gate_driver import Firings
from benchmarks.pictures import SMALL, Payload
from benchmarks.pollers import Polled
from benchmarks.pollers import aim as pollers_aim
from benchmarks.pollers import section as pollers_section
from benchmarks.report import Conditions, page

PAYLOAD = Payload(name="0.3 MP", size=SMALL, pictures=(b"x" * 100_000,))
SETUP = Setup(
    bundle=None,
    model=Path("b-1.0.0"),
    payloads=(PAYLOAD,),
    images=Path(),
    scratch=Path(),
    rounds=2,
    in_flight=4,
    firings=10,
    quick=False,
)


def _measured(latencies: list[float], rates: list[float], **steps: float) -> Measured:
    return Measured(latencies=[[latency] * 9 for latency in latencies], rates=rates, steps=steps)


def _comparison() -> Comparison:
    programs = {
        "floor": _measured([10.0, 20.0], [50.0, 40.0], decode=2.0, inference=5.0, total=8.0, registers=10.0),
        "floor1": _measured([10.0, 40.0], [60.0, 55.0], decode=1.0, inference=6.0, total=8.0, registers=10.0),
        "bridge": _measured(
            [8.0, 18.0], [60.0, 44.0], queue=0.5, decode=3.0, inference=5.0, handover=0.25, total=9.0, registers=12.0
        ),
    }
    return Comparison(payloads=(PAYLOAD,), figures={"0.3 MP": programs}, memory={"bridge": (200.4, 210.6)}, unjudged=7)


def test_each_line_compares_with_the_better_floor() -> None:
    text = section(_comparison(), SETUP)
    for line in (
        "| 0.3 MP | p50, ms | 20.0 | 40.0 | 18.0 | 0.90 (rounds 0.85, 0.80 to 0.90) |",
        "| 0.3 MP | parts/s (more is better) | 45.0 | 57.5 | 52.0 | 0.90 (0.80 to 1.00) |",
        "(ERROR, LATE) in all of this: 7.",
        "| bridge | 200 | 211 |",
    ):
        assert line in text
    assert "0.90 (0.80 to 1.00) |" in ratios(_comparison())


def test_the_split_adds_up_whatever_steps_the_bridge_tells() -> None:
    text = section(_comparison(), SETUP)
    for line in (
        "| its queue |  |  | 0.50 |",
        "| handover |  |  | 0.25 |",
        "| between | 1.00 | 1.00 | 0.25 |",
        "| outside | 2.00 | 2.00 | 3.00 |",
        "| **published to registers** | 10.00 | 10.00 | 12.00 |",
    ):
        assert line in text


def test_an_order_that_was_not_fired_is_no_good_figure() -> None:
    firings = Firings(class_="realtime", why="", ordered=100, pictures=5, errors_ms=[0.1] * 98)
    assert firings.error(0.5) == 0.1
    assert math.isinf(firings.error(0.99)) and math.isinf(firings.error(1.0))
    plc = PlcErrors(parts=30, p50_mm=6.0, p99_mm=12.0, max_mm=12.0, problems=["one is lost"])
    text = gate_section({"realtime": firings}, plc, "")
    assert "| gate process, SCHED_FIFO | 100 | 0.100 | missed | missed | 2 |" in text
    assert "| 30 parts | 5.000 (6.0 mm) | 10.000 (12.0 mm) |" in text
    assert "one is lost" in text
    assert "may not use SCHED_FIFO**: not allowed." in gate_section({}, plc, "not allowed")


def test_the_page_tells_missed_aims_and_a_noisy_machine() -> None:
    aims = (
        Aim(what="a", aim="1 ms", figure="2 ms", met=False),
        Aim(what="b", aim="1 ms", figure="1 ms", met=True),
        Aim(what="c", aim="1 ms", figure="not measured", met=None),
    )
    findings = [Findings(text="## Part", aims=aims, ratios="| ratios |")]

    def written(load_before: float) -> str:
        return page(
            findings, Conditions(bundle="b-1.0.0", shipped=True, quick=False, load_before=load_before, took_s=60.0)
        )

    text = written(3.2)
    for line in (
        "OTHER WORK RAN",
        "| a | 1 ms | 2 ms | **no** |",
        "| b | 1 ms | 1 ms | yes |",
        "not measured |",
        "## Part",
    ):
        assert line in text
    assert text.index("| ratios |") < text.index("## Part")
    assert "OTHER WORK RAN" not in written(0.1)


def test_a_quantile_is_a_value_that_was_measured() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([3.0, 1.0, 2.0], 1.0) == 3.0


def test_what_pollers_cost_is_a_ratio_of_rounds_and_a_torn_read_misses_the_aim() -> None:
    def polled(torn: int) -> Polled:
        return Polled(
            with_them=[[11.0, 11.0], [21.0, 21.0]],
            without=[[10.0, 10.0], [20.0, 20.0]],
            reads=4_000,
            torn=torn,
            slowest_ms=7.25,
            took_s=4.0,
        )

    text = pollers_section(polled(0), 2)
    assert "| p50 | 20.0 | 21.0 | 1.08 (1.05 to 1.10) |" in text
    assert "1000 reads/s" in text and "7.2 ms; 0 of 4000" in text
    assert pollers_aim(polled(0)).met is True
    assert pollers_aim(polled(1)).met is False
