"""Cross-validation: every picture judged once, by a net that had not seen it nor one of its group."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from models.toolkit.figures.metrics import Share
from models.toolkit.pictures.folder import DataError, LabelledFolder
from models.toolkit.pictures.staged import Split, Stage
from models.toolkit.progress import Say
from models.toolkit.training.judging import Confusion, accuracy_of, confusion_of
from models.toolkit.training.learning import Lesson, learn


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossValidated:
    """What the nets of all folds said of the pictures kept from them, a confusion (rows the truth) for each fold."""

    confusions: tuple[Confusion, ...]

    @property
    def total(self) -> Confusion:
        """The confusion over all pictures."""
        return np.asarray(np.sum(self.confusions, axis=0), np.int64)

    @property
    def shares(self) -> tuple[Share, ...]:
        """How many each fold's net told right."""
        return tuple(accuracy_of(confusion) for confusion in self.confusions)

    @property
    def mean(self) -> float:
        """The mean of the folds' accuracies, 0 to 1."""
        return statistics.fmean(share.value for share in self.shares)

    @property
    def spread(self) -> float:
        """Their standard deviation (n - 1), 0 to 1: how much it matters which pictures a net learns from."""
        return statistics.stdev(share.value for share in self.shares)


def folds_of(folder: LabelledFolder, count: int, *, seed: int) -> Iterator[Split]:
    """Give `count` splits with the classes' shares alike and groups whole, each picture held out once; raises DataError.

    Pictures with the same bytes are of one group.
    """
    groups = [sample.group or sample.sha256 for sample in folder.samples]
    labels = [sample.label for sample in folder.samples]
    for label in folder.labels:
        own = len({group for group, each in zip(groups, labels, strict=True) if each == label})
        if own <= count:
            raise DataError(
                f"--folds {count}: class {label!r} of {folder.path} has {own} different pictures or groups: wanted are more "
                "than the folds"
            )
    numbers = np.unique(groups, return_inverse=True)[1]
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    for kept, held_out in splitter.split(labels, labels, numbers):
        yield Split(
            kept=tuple(folder.samples[place] for place in kept),
            held_out=tuple(folder.samples[place] for place in held_out),
        )


def cross_validate(lesson: Lesson, *, say: Say) -> CrossValidated:
    """Train a net for each fold and judge the fold by it; raises DataError."""
    folder, count = lesson.folder, lesson.settings.folds
    confusions = []
    for number, split in enumerate(list(folds_of(folder, count, seed=lesson.settings.seed)), start=1):
        say(f"fold {number} of {count}")
        learnt = learn(lesson, split.kept, say=say)
        confusions.append(confusion_of(learnt.model, Stage(lesson.spec), split.held_out, folder.labels))
        say(f"fold {number} of {count}: {accuracy_of(confusions[-1])} of its pictures right")
    return CrossValidated(confusions=tuple(confusions))
