"""Says what is wrong within one verdict's row: its columns against each other and against its JSON document."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from bridge.domain.rfc3339 import parse_utc
from bridge.domain.verdict import Disposition, VerdictCode
from bridge.records.schema import clean

CODES: Mapping[str, int] = {code.name: int(code) for code in VerdictCode if code is not VerdictCode.NONE}
DISPOSITIONS = tuple(each.name for each in Disposition)  # NONE: a dry run
JUDGED = frozenset({"PASS", "FAIL", "UNCERTAIN"})
SAME = (
    "line", "station", "epoch", "sequence", "part_id", "verdict", "code", "disposition", "reason", "label", "recipe",
    "model", "triggered_utc", "decided_utc", "picture",
)  # fmt: skip
"""What stands in the columns and in the document alike; score and replayed have another form there."""
SCORE_DIGITS = 6
SHA256 = re.compile(r"[0-9a-f]{64}")
ABSENT = object()


def contradictions(row: Mapping[str, Any]) -> Iterator[str]:
    """Give each contradiction of a row, fit for a person."""
    verdict, code, disposition = row["verdict"], row["code"], row["disposition"]
    if verdict not in CODES:
        yield f"verdict {verdict!r} is none of {', '.join(CODES)}"
    elif code != CODES[verdict]:
        yield f"verdict {verdict} has code {code}, not {CODES[verdict]}"
    if disposition not in DISPOSITIONS:
        yield f"disposition {disposition!r} is none of {', '.join(DISPOSITIONS)}"
    elif verdict == "PASS" and disposition == Disposition.REJECT.name:
        yield f"verdict PASS has disposition {disposition}"
    if row["replayed"] not in (0, 1):
        yield f"replayed is {row['replayed']}, neither 0 nor 1"
    for name in ("triggered_utc", "decided_utc"):
        if moment_ns(row[name]) is None:
            yield f"{name} {row[name]!r} is no moment"
    yield from _document(row)


def moment_ns(stamp: Any) -> int | None:
    """Read a column's moment, None when it is none: somebody may have been at it."""
    try:
        return parse_utc(str(stamp))
    except ValueError:
        return None


def unnamed_model(row: Mapping[str, Any]) -> str | None:
    """Say that a judged part doesn't name the model that judged it, None when it does."""
    judged = row["verdict"] in JUDGED
    if judged and not row["model"]:
        return f"verdict {row['verdict']} without a model"
    if (judged or row["model"]) and not SHA256.fullmatch(row["model_sha256"] or ""):
        return f"model {row['model']} without its SHA-256"
    return None


def _document(row: Mapping[str, Any]) -> Iterator[str]:
    try:
        document = json.loads(row["json"])
    except (ValueError, TypeError, RecursionError):
        document = None
    if not isinstance(document, dict):
        yield "its document is no JSON object"
        return
    for name in SAME:
        told = document.get(name, ABSENT)
        if told is ABSENT:
            yield f"its document has no {name}"
        elif (clean(told) if isinstance(told, str) else told) != row[name]:
            yield f"{name} is {row[name]!r}, its document says {told!r}"
    if not _same_score(row["score"], document.get("score")):
        yield f"score is {row['score']}, its document says {document.get('score')!r}"
    if document.get("replayed") is not bool(row["replayed"]):
        yield f"replayed is {row['replayed']}, its document says {document.get('replayed')!r}"


def _same_score(stored: float | None, told: Any) -> bool:
    if stored is None or not math.isfinite(stored):
        return told is None
    return isinstance(told, int | float) and abs(stored - told) <= 10.0**-SCORE_DIGITS
