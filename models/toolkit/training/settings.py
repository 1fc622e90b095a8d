"""What `train` is asked for, and what of it can't be."""

from __future__ import annotations

from dataclasses import dataclass

from models.toolkit.pictures.folder import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Which net to train, how long, and on what.

    The input has about `side` x `side` pixels. `groups` is a regular expression (`models.toolkit.pictures.folder.read_folder`);
    `folds` how many parts cross-validation makes, 0 for none; `blend` how many pictures each rare class shall have to learn
    from, 0 where none are made.
    """

    architecture: str
    epochs: int
    good: str | None = None
    groups: str | None = None
    weights: str = "auto"
    attention: str = "none"
    folds: int = 0
    blend: int = 0
    seed: int = 0
    side: int = 224

    def __post_init__(self) -> None:
        """Raise DataError for a number that means nothing."""
        if self.folds and self.folds < 2:
            raise DataError(f"--folds {self.folds}: allowed are 2 and more")
        if self.blend < 0:
            raise DataError(f"--blend {self.blend}: allowed are 1 and more")

    def refuse_what_only_classifiers_take(self) -> None:
        """Raise DataError for a wish that only classifiers can have granted."""
        plain = TrainSettings(architecture=self.architecture, epochs=self.epochs)
        for name in ("weights", "attention", "folds", "blend"):
            if getattr(self, name) != getattr(plain, name):
                raise DataError(f"--{name} {getattr(self, name)}: {self.architecture} doesn't take it, classifiers do")
