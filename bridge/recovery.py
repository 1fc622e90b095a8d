"""What an earlier run left without a verdict is completed at the start: recorded and told, never actuated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bridge.domain.gate import NO_ORDER
from bridge.domain.part import Part, Result, Trigger
from bridge.domain.recipe import Recipe
from bridge.domain.report import encode, verdict_document
from bridge.domain.verdict import Disposition, Judgement, VerdictCode, disposition_for
from bridge.ports import Clock, Outcome, VerdictOutput
from bridge.records.history import Unfinished

LEFT_OPEN = "the bridge ended before a verdict"


@dataclass(frozen=True, slots=True)
class Completed:
    """The outcome that stands in for the verdict that was never made."""

    outcome: Outcome
    code: VerdictCode
    disposition: Disposition


def complete(lost: Unfinished, *, recipe: Recipe, clock: Clock, part_length_mm: float) -> Completed:
    """Give ERROR, replayed, to a trigger that an earlier run accepted; the part itself is long gone."""
    now_ns, now_utc_ns = clock.now_ns(), clock.utc_ns()
    name, _, revision = lost.recipe.partition("@")
    then = replace(recipe, name=name or recipe.name, revision=int(revision) if revision.isdecimal() else 1)
    trigger = Trigger(
        sequence=lost.sequence,
        part_id=lost.part_id,
        arrived_ns=now_ns,
        ts=lost.ts,
        encoder_counts=lost.encoder,
        length_mm=lost.length_mm,
        backlog=True,
    )
    part = Part(
        line=lost.line,
        station=lost.station,
        trigger=trigger,
        epoch=lost.epoch,
        triggered_ns=now_ns - max(0, now_utc_ns - lost.triggered_utc_ns),
        triggered_utc_ns=lost.triggered_utc_ns,
        length_mm=lost.length_mm or part_length_mm,
        recipe=then,
        count_at_trigger=lost.encoder,
    )
    disposition = disposition_for(VerdictCode.ERROR, recipe)
    result = Result(
        part=part,
        judgement=Judgement(code=VerdictCode.ERROR, reason=LEFT_OPEN),
        disposition=disposition,
        order=NO_ORDER,
        captured_utc_ns=None,
        decided_ns=now_ns,
        decided_utc_ns=now_utc_ns,
        timing_ms={},
        model=None,
        model_sha256=None,
        replayed=True,
    )
    outcome = Outcome(result=result, document=encode(verdict_document(result)))
    return Completed(outcome, VerdictCode.ERROR, disposition)


def remember(documents: Iterable[tuple[int, str]], outputs: Sequence[VerdictOutput]) -> None:
    """Fill the history that GetResult answers from with the verdicts of earlier runs."""
    for sequence, document in documents:
        for output in outputs:
            output.remember(sequence, document)
