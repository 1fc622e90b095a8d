"""The bridge beside the direct script, in turns: three payloads, the split of the time, memory."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.figures import Findings, Setup, quantile, ratio_of_rounds, table
from benchmarks.load import Load
from benchmarks.memory import resident_mb
from benchmarks.pictures import Payload
from benchmarks.processes import bridge, broker, floor, free_ports

FLOORS = {"floor": 0, "floor1": 1}
"""The direct script with onnxruntime's default threads (0), and with one."""
PROGRAMS = (*FLOORS, "bridge")
WARM_UP = 8
SPLIT_PARTS = 12
STEPS = {
    "queue": "its queue",
    "decode": "decode",
    "preprocess": "preprocess",
    "inference": "inference",
}


@dataclass(slots=True, kw_only=True)
class Measured:
    """One program's figures with one payload, a list entry for each round; times in ms."""

    latencies: list[list[float]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    steps: dict[str, float] = field(default_factory=dict)

    @property
    def pooled(self) -> list[float]:
        """All latencies of all rounds."""
        return [latency for round_ in self.latencies for latency in round_]

    def quantile(self, share: float) -> float:
        """Give a quantile of all rounds together."""
        return quantile(self.pooled, share)

    def by_round(self, share: float) -> list[float]:
        """Give a quantile of each round."""
        return [quantile(latencies, share) for latencies in self.latencies]


@dataclass(slots=True, kw_only=True)
class Comparison:
    """Figures by payload and program; memory in MB as (after the warm-up, at the end)."""

    payloads: Sequence[Payload]
    figures: dict[str, dict[str, Measured]]
    memory: dict[str, tuple[float, float]] = field(default_factory=dict)
    unjudged: int = 0


@contextlib.contextmanager
def programs(setup: Setup, payloads: Sequence[Payload]) -> Iterator[dict[str, Load]]:
    """Run both direct scripts and the bridge on a broker of their own, each with its load, warmed up with `payloads`."""
    (port,) = free_ports(1)
    with contextlib.ExitStack() as stack:
        folder = _fresh(setup.scratch)
        stack.enter_context(broker(port))
        targets = [
            stack.enter_context(floor(setup.model, name=name, broker_port=port, threads=threads, images=setup.images))
            for name, threads in FLOORS.items()
        ]
        targets += stack.enter_context(bridge(folder, broker_port=port, bundle=setup.bundle, images=setup.images))
        loads = {target.name: stack.enter_context(Load(target)) for target in targets}
        for load in loads.values():
            for payload in payloads:
                load.paced(payload, WARM_UP, interval_s=0.02)
        yield loads


def measure(setup: Setup) -> Findings:
    """Measure all payloads in turns; the programs that wait stay up, idle."""
    figures = {payload.name: {name: Measured() for name in PROGRAMS} for payload in setup.payloads}
    comparison = Comparison(payloads=setup.payloads, figures=figures)
    with programs(setup, setup.payloads) as loads:
        before = _memory(loads)
        for number in range(setup.rounds):
            for payload in setup.payloads:
                # the order is reversed each time, so that a drift of the machine hits all alike
                for name in sorted(loads, reverse=bool(number % 2)):
                    _take_turn(loads[name], payload, figures[payload.name][name], setup)
        for payload in setup.payloads:
            for name, load in loads.items():
                interval_s = payload.size.interval_ms / 1e3
                figures[payload.name][name].steps = load.split(payload, SPLIT_PARTS, interval_s=interval_s)
        after = _memory(loads)
        comparison.memory = {name: (before[name], after[name]) for name in loads}
        comparison.unjudged = loads["bridge"].unjudged
    return Findings(text=section(comparison, setup), ratios=ratios(comparison))


def ratios(comparison: Comparison) -> str:
    """Write bridge : better floor, of each payload a line."""
    lines = []
    for payload in comparison.payloads:
        rows = _rows(payload.name, comparison.figures[payload.name])
        lines.append((f"{payload.name} ({payload.words})", *(row[-1] for row in rows)))
    return table(("bridge : better floor", "p50", "p99", "parts/s (more is better)"), lines)


def section(comparison: Comparison, setup: Setup) -> str:
    """Write what was found."""
    sizes = "\n".join(
        f"- **{payload.name}**: {payload.words}; {payload.size.parts // setup.shorter} parts a round, one every "
        f"{payload.size.interval_ms:g} ms or when the last one is through, "
        f"then {payload.size.flat_out // setup.shorter} flat out."
        for payload in comparison.payloads
    )
    rows = [row for payload in comparison.payloads for row in _rows(payload.name, comparison.figures[payload.name])]
    memory = [(name, *(f"{value:.0f}" for value in comparison.memory[name])) for name in comparison.memory]
    splits = "\n\n".join(
        f"{payload.name}:\n\n{_split(comparison.figures[payload.name])}" for payload in comparison.payloads
    )
    return f"""## The bridge beside the most direct script

{table(("payload", "figure", *PROGRAMS, "bridge : better floor"), rows)}

Parts that the bridge did not judge (ERROR, LATE) in all of this: {comparison.unjudged}.

{sizes}

Rounds: {setup.rounds}, each program in turn, the order reversed every round; the programs that wait stay up, idle.
Latency runs from just before the trigger is published to the end of the Modbus read that first shows its sequence; the
registers are read every millisecond or so, which costs each program the same. Flat out keeps {setup.in_flight} parts in
flight. The ratio is of all rounds together for p50 and p99, the median of the rounds for parts/s; in brackets the rounds'
median and range. What limits it: inference, which is the same in all of them, and for 5 MP the decoding. Load generator,
broker and program share the cores, so the broker's copy of 800 kB is in every figure. p99 of so few parts is nearly the
worst one.

### Where the time goes

Each program's own stopwatch, mean in ms over {SPLIT_PARTS} parts more. The bridge tells it in its verdicts, to which
one client listens here.

{splits}

*Between* is what the program's own total holds beside these steps: hand-over to the model's worker and back, the
decision, and with a path the reading of the file. *Outside* is what lies between that total and the read that shows the
result: broker, MQTT client, journal's commit, outputs, wait for the next read.

### Memory

Resident, in MB, summed over the process and its children (what they share counts in each):

{table(("", "after warm-up", "at the end"), memory)}

The bridge has more in it: journal, history of 1,000 verdicts, the whole address space, and a picture store."""


def _take_turn(load: Load, payload: Payload, measured: Measured, setup: Setup) -> None:
    size, shorter = payload.size, setup.shorter
    measured.latencies.append(load.paced(payload, size.parts // shorter, interval_s=size.interval_ms / 1e3))
    measured.rates.append(load.flat_out(payload, size.flat_out // shorter, in_flight=setup.in_flight))


def _memory(loads: Mapping[str, Load]) -> dict[str, float]:
    return {name: resident_mb(load.target.pid) for name, load in loads.items()}


def _rows(payload: str, figures: Mapping[str, Measured]) -> list[tuple[str, ...]]:
    """Give the lines of one payload; each ratio is to whichever floor did better in that very line."""
    lines = []
    for what, share in (("p50, ms", 0.5), ("p99, ms", 0.99)):
        pooled = {name: each.quantile(share) for name, each in figures.items()}
        best = min(FLOORS, key=pooled.__getitem__)
        middle, low, high = ratio_of_rounds(figures["bridge"].by_round(share), figures[best].by_round(share))
        ratio = f"{pooled['bridge'] / pooled[best]:.2f} (rounds {middle:.2f}, {low:.2f} to {high:.2f})"
        lines.append((payload, what, *(f"{pooled[name]:.1f}" for name in PROGRAMS), ratio))
    rates = {name: statistics.median(each.rates) for name, each in figures.items()}
    best = max(FLOORS, key=rates.__getitem__)
    middle, low, high = ratio_of_rounds(figures["bridge"].rates, figures[best].rates)
    ratio = f"{middle:.2f} ({low:.2f} to {high:.2f})"
    lines.append((payload, "parts/s (more is better)", *(f"{rates[name]:.1f}" for name in PROGRAMS), ratio))
    return lines


def _split(figures: Mapping[str, Measured]) -> str:
    known = [step for step in STEPS if any(step in each.steps for each in figures.values())]
    others = [step for step in figures["bridge"].steps if step not in (*STEPS, "total", "registers")]
    rows = [
        (STEPS.get(step, step), *(_shown(figures[name].steps.get(step)) for name in PROGRAMS))
        for step in (*known, *others)
    ]
    between, outside, whole = [], [], []
    for name in PROGRAMS:
        steps = figures[name].steps
        inside = sum(value for step, value in steps.items() if step not in ("total", "registers"))
        between.append(_shown(steps["total"] - inside))
        outside.append(_shown(steps["registers"] - steps["total"]))
        whole.append(_shown(steps["registers"]))
    rows += [("between", *between), ("outside", *outside), ("**published to registers**", *whole)]
    return table(("step", *PROGRAMS), rows)


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _fresh(scratch: Path) -> Path:
    """Give an empty folder for one bridge."""
    folder = scratch / f"bridge-{len(list(scratch.glob('bridge-*')))}"
    folder.mkdir()
    return folder
