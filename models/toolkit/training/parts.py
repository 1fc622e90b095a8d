"""A folder's pictures in three parts: to learn from, to stop by, and unseen ones to judge by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.toolkit.pictures.folder import DataError, LabelledFolder, Sample
from models.toolkit.pictures.staged import split_off
from models.toolkit.training.fine_tuning import set_aside


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Pictures of each part: 30 % of each class are `held_out`, 15 % of the rest are `validation`, groups kept together."""

    training: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    held_out: tuple[Sample, ...]

    @property
    def by_name(self) -> Mapping[str, tuple[Sample, ...]]:
        """The three parts by name."""
        return {"training": self.training, "validation": self.validation, "held_out": self.held_out}


def divide(pictures: LabelledFolder, *, seed: int) -> Parts:
    """Split a folder; raises DataError where it has good pictures and a part has none, or where a part has only them."""
    split = split_off(pictures.samples, seed=seed)
    inner = set_aside(split.kept, seed=seed)
    parts = Parts(training=inner.kept, validation=inner.held_out, held_out=split.held_out)
    for name, samples in parts.by_name.items():
        defective = [sample.label != pictures.good for sample in samples]
        _check_part(pictures.path, name, defective, good=pictures.good is not None)
    return parts


def _check_part(folder: Path, name: str, defective: Sequence[bool], *, good: bool) -> None:
    """Raise DataError where a part of the pictures lacks good or defective ones: groups may be that uneven."""
    if any(defective) and not (good and all(defective)):
        return
    kind = "pictures with a defect" if not any(defective) else "good pictures"
    raise DataError(
        f"{folder}: no {kind} in the {name.replace('_', '-')} part: wanted are more pictures, or groups (--groups) "
        "that each have good and defective ones"
    )
