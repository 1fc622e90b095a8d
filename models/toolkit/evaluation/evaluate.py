"""Judge a bundle on a labelled folder, with the very code of the line, and count with intervals.

Every figure is computed twice, by the project's own functions and by scikit-learn's; where they differ nothing is reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, roc_auc_score

from bridge.domain.verdict import Judgement, Scores, VerdictCode, decide
from bridge.errors import BridgeError, CameraError
from bridge.inference.bundle import Bundle, read_bundle
from bridge.inference.pipeline import Pipeline
from bridge.inference.trust import Trust
from models.toolkit.bundles.recipe import own_recipe
from models.toolkit.figures.metrics import Share, auroc, cut_at_false_rejects, escapes_at_false_rejects, macro_f1
from models.toolkit.pictures.folder import DataError, LabelledFolder, Sample, read_folder
from models.toolkit.progress import Progress

REJECTED, PASSED = "defect", "good"
_ALIKE = 1e-9


class EvaluationError(BridgeError):
    """Two ways to count one thing gave two results: nothing is reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPicture:
    """A picture with what the bundle said: scores by label, the verdict, and the time of its inference in ms."""

    sample: Sample
    scores: Scores
    verdict: Judgement
    ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """All judged pictures of a folder, and what is told of them."""

    bundle: Bundle
    folder: LabelledFolder
    pictures: tuple[JudgedPicture, ...]
    report: Mapping[str, Any]


def evaluate(
    bundle_path: Path,
    folder_path: Path,
    *,
    good: str | None = None,
    progress: Progress = lambda _done, _of: None,
) -> Evaluation:
    """Judge every picture; raises DataError or BundleError. The bundle needs no signature; its golden frames are checked."""
    bundle = read_bundle(bundle_path, Trust(require_signature=False))
    pipeline = Pipeline(bundle)
    pipeline.check_golden(bundle)
    folder = read_folder(
        folder_path, good=good, usual_good=_good_of(bundle), defects=_defects_of(bundle), least=1, classes=1
    )
    judged = []
    for sample in folder.samples:
        judged.append(judge(pipeline, bundle, sample))
        progress(len(judged), len(folder.samples))
    return Evaluation(bundle=bundle, folder=folder, pictures=tuple(judged), report=report_of(bundle, folder, judged))


def judge(pipeline: Pipeline, bundle: Bundle, sample: Sample) -> JudgedPicture:
    """Judge one picture as the line does, by the bundle's own thresholds; raises DataError for its file."""
    try:
        inference = pipeline.score(
            sample.path.read_bytes(), thresholds=bundle.thresholds, roi=None, reduction=1, ours=True
        )
    except (CameraError, OSError) as exc:
        raise DataError(f"{sample.path}: {exc}") from exc
    return JudgedPicture(
        sample=sample,
        scores=inference.scores,
        verdict=decide(inference.scores, own_recipe(bundle.manifest)),
        ms=inference.timing_ms["inference"],
    )


def defect_score(bundle: Bundle, scores: Scores) -> float:
    """Give how defective a picture is, 0 to 1: what its good labels leave, or the highest of the defects'."""
    if bundle.good_labels:
        return 1 - sum(scores.by_label[label] for label in bundle.good_labels)
    return max(scores.by_label.values())


def good_or_not(
    bundle: Bundle, folder: LabelledFolder, judged: Sequence[JudgedPicture]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]] | None:
    """Give each picture's defect score and whether it is defective; None where the folder has only one of the two."""
    bad = np.asarray([picture.sample.label != folder.good for picture in judged])
    if folder.good is None or bad.all() or not bad.any():
        return None
    return np.asarray([defect_score(bundle, picture.scores) for picture in judged], np.float64), bad


def report_of(bundle: Bundle, folder: LabelledFolder, judged: Sequence[JudgedPicture]) -> dict[str, Any]:
    """Count everything twice and tell it; raises EvaluationError where the two differ."""
    by_class = set(folder.labels) <= set(bundle.labels)
    told = [picture.sample.label for picture in judged]
    if by_class:
        names = list(bundle.labels)
        said = [max(picture.scores.by_label, key=picture.scores.by_label.__getitem__) for picture in judged]
    else:
        names = [PASSED, REJECTED]
        told = [PASSED if label == folder.good else REJECTED for label in told]
        said = [PASSED if picture.verdict.code is VerdictCode.PASS else REJECTED for picture in judged]
    right = Share(count=sum(a == b for a, b in zip(told, said, strict=True)), n=len(told))
    table = confusion_matrix(told, said, labels=names)
    present = sorted(set(told) | set(said))
    _same("accuracy", right.value, float(accuracy_score(told, said)))
    places = [names.index(name) for name in present]
    f1 = macro_f1(table[np.ix_(places, places)])
    _same("macro F1", f1, float(f1_score(told, said, labels=present, average="macro", zero_division=0.0)))
    return {
        "bundle": bundle.reference, "folder": str(folder.path), "n": len(judged),
        "judged": "classes" if by_class else "verdicts", "good": folder.good,
        "taught_with_these": bundle.manifest.training.get("pictures_sha256") == folder.sha256,
        "accuracy": round(right.value, 6), "accuracy_interval": [round(end, 6) for end in right.interval],
        "macro_f1": round(f1, 6), **_two_classes(bundle, folder, judged),
        "per_class": {name: _of_class(table, place) for place, name in enumerate(names) if table[place].sum()},
        "confusion": {
            name: {other: int(table[place, column]) for column, other in enumerate(names) if table[place, column]}
            for place, name in enumerate(names) if table[place].sum()
        },
        "verdicts": {
            code.name: sum(picture.verdict.code is code for picture in judged) for code in VerdictCode if code.value
        },
        "latency_ms": _latency(judged),
    }  # fmt: skip


def _good_of(bundle: Bundle) -> str | None:
    """Give the class of good parts that a bundle was taught with."""
    if len(bundle.good_labels) == 1:
        return bundle.good_labels[0]
    told = bundle.manifest.training.get("good")
    return told if isinstance(told, str) else None


def _defects_of(bundle: Bundle) -> Sequence[str]:
    """Give the kinds of defect that a bundle knows; none where it was taught no good parts, for then a stranger may be one."""
    if bundle.manifest.task == "classification" and not bundle.good_labels:
        return ()
    counts = bundle.manifest.training.get("counts")
    names = {*bundle.labels, *(counts if isinstance(counts, Mapping) else ())}
    return sorted(names - {*bundle.good_labels, _good_of(bundle) or "good"})


def _two_classes(bundle: Bundle, folder: LabelledFolder, judged: Sequence[JudgedPicture]) -> dict[str, Any]:
    """Tell good from defective; nothing of it where the folder has only one of them."""
    two = good_or_not(bundle, folder, judged)
    if two is None:
        return {"auroc": None, "escapes_at_1pct_false_rejects": None, "escapes": None, "false_rejects": None}
    scores, bad = two
    area = auroc(scores, bad)
    _same("AUROC", area, float(roc_auc_score(bad, scores)))
    passed = np.asarray([picture.verdict.code is VerdictCode.PASS for picture in judged])
    escapes = Share(count=int((passed & bad).sum()), n=int(bad.sum()))
    rejects = Share(count=int((~passed & ~bad).sum()), n=int((~bad).sum()))
    at_one = escapes_at_false_rejects(scores, bad)
    return {
        "auroc": round(area, 6), "escapes_at_1pct_false_rejects": round(at_one.value, 6),
        "threshold_at_1pct_false_rejects": round(cut_at_false_rejects(scores, bad, share=0.01), 6),
        "escapes": _share(escapes), "false_rejects": _share(rejects),
    }  # fmt: skip


def _share(share: Share) -> dict[str, Any]:
    return {"count": share.count, "n": share.n, "interval": [round(end, 6) for end in share.interval]}


def _of_class(table: npt.NDArray[np.int64], place: int) -> dict[str, Any]:
    hit, own, said = int(table[place, place]), int(table[place].sum()), int(table[:, place].sum())
    recall = Share(count=hit, n=own)
    return {
        "n": own, "recall": round(recall.value, 6), "recall_interval": [round(end, 6) for end in recall.interval],
        "precision": round(hit / said, 6) if said else None,
    }  # fmt: skip


def _latency(judged: Sequence[JudgedPicture]) -> dict[str, float]:
    times = [picture.ms for picture in judged]
    return {"p50": round(float(np.percentile(times, 50)), 2), "p99": round(float(np.percentile(times, 99)), 2)}


def _same(name: str, ours: float, theirs: float) -> None:
    if abs(ours - theirs) > _ALIKE:
        raise EvaluationError(f"{name}: counted here {ours!r}, by scikit-learn {theirs!r}: nothing is reported")
