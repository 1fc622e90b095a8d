"""What the steps of `compress` are given and give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from bridge.inference.manifest import Manifest
from models.toolkit.pictures.folder import LabelledFolder
from models.toolkit.pictures.staged import Split
from models.toolkit.progress import Say


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model with the manifest that tells how to feed it and what its scores mean."""

    model: onnx.ModelProto
    manifest: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a step made, and what it chose on the way."""

    candidate: Candidate
    how: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What steps may use: pictures to learn and calibrate from, a seed, and where to tell how it goes."""

    folder: LabelledFolder
    split: Split
    seed: int
    say: Say


MakeStep = Callable[[Candidate, Material], Made]
