"""Results as OPC 40100-1 keeps them: what of a verdict it names, who belongs to which job, and the last ones by their id."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from bridge.domain.part import Result
from bridge.domain.verdict import VerdictCode
from bridge.outputs.plc.view import Shown

HISTORY = 1000
COMPLETED, ABORTED, FAILED = 1, 3, 4
RESULT_STATES: Mapping[VerdictCode, int] = MappingProxyType(
    {
        VerdictCode.PASS: COMPLETED,
        VerdictCode.FAIL: COMPLETED,
        VerdictCode.UNCERTAIN: COMPLETED,
        VerdictCode.ERROR: FAILED,
        VerdictCode.LATE: ABORTED,
    }
)
"""The specification's ResultState tells how the judging went, never whether the part is good: that is in the content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One execution: a single one, or a continuous one with many parts. The client's own ids are empty where it gave none."""

    job_id: str
    meas_id: str = ""
    product_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeIdentity:
    """A recipe with what it judges by; `sha256` is the bundle's, hexadecimal, empty where it is not known."""

    name: str
    reference: str
    model: str = ""
    sha256: str = ""

    @property
    def revision(self) -> str:
        """The part of the reference behind the @."""
        return self.reference.partition("@")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionResult:
    """One verdict without the picture that led to it; times are nanoseconds since 1970."""

    result_id: str
    part_id: str
    job: Job
    state: int
    recipe: RecipeIdentity
    triggered_utc_ns: int
    captured_utc_ns: int | None
    decided_utc_ns: int
    processing_ms: float
    document: str


def vision_result(shown: Shown, job: Job) -> VisionResult:
    """Take from a live result what the specification names."""
    result = shown.result
    part = result.part
    return VisionResult(
        result_id=result_id_of(result),
        part_id=part.part_id,
        job=job,
        state=RESULT_STATES[result.judgement.code],
        recipe=RecipeIdentity(
            name=part.recipe.name,
            reference=part.recipe.reference,
            model=result.model or "",
            sha256=result.model_sha256 or "",
        ),
        triggered_utc_ns=part.triggered_utc_ns,
        captured_utc_ns=result.captured_utc_ns,
        decided_utc_ns=result.decided_utc_ns,
        processing_ms=result.timing_ms.get("total", 0.0),
        document=shown.document,
    )


def result_id_of(result: Result) -> str:
    """Give the id of a result, which no other of this line has: epoch and sequence are the journal's key."""
    part = result.part
    return f"{part.line}.{part.station}.{part.epoch}.{part.sequence}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFilter:
    """What GetResultListFiltered asks for; 0 and empty texts let everything through."""

    state: int = 0
    meas_id: str = ""
    part_id: str = ""
    external_recipe: str = ""
    internal_recipe: str = ""
    product_id: str = ""
    job_id: str = ""

    def lets_through(self, result: VisionResult) -> bool:
        """Whether a result is asked for."""
        pairs = (
            (self.state, result.state),
            (self.meas_id, result.job.meas_id),
            (self.part_id, result.part_id),
            (self.external_recipe, result.recipe.name),
            (self.internal_recipe, result.recipe.reference),
            (self.product_id, result.job.product_id),
            (self.job_id, result.job.job_id),
        )
        return all(not wanted or wanted == there for wanted, there in pairs)


class ResultStore:
    """Keep the last 1,000 live results by their id."""

    def __init__(self) -> None:
        self._results: OrderedDict[str, VisionResult] = OrderedDict()

    def keep(self, result: VisionResult) -> None:
        """Take one result; the oldest goes when there are too many."""
        self._results[result.result_id] = result
        if len(self._results) > HISTORY:
            self._results.popitem(last=False)

    def get(self, result_id: str) -> VisionResult | None:
        """Give one result; None when it is not, or no longer, known."""
        return self._results.get(result_id)

    def filtered(self, wanted: ResultFilter) -> Iterator[VisionResult]:
        """Give the results that a filter lets through, oldest first."""
        return (each for each in self._results.values() if wanted.lets_through(each))
