"""The benchmark of `teach` judges by different pictures each time."""

from __future__ import annotations

from pathlib import Path

from benchmarks.teach import different_splits, divide
from models.toolkit.pictures.folder import Sample


def test_few_groups_give_few_splits_and_none_twice() -> None:
    samples = [
        Sample(
            path=Path(f"good/{group}-{number}.jpg"), label="good", mask=None, sha256="", width=8, height=8, group=group
        )
        for group in ("a", "b", "c")
        for number in range(4)
    ]
    seeds = different_splits(samples, count=5, unseen=0.3)
    kept = [frozenset(sample.group for sample in divide(samples, seed=seed, unseen=0.3)[1]) for seed in seeds]
    assert len(seeds) == 3
    assert set(kept) == {frozenset("a"), frozenset("b"), frozenset("c")}
