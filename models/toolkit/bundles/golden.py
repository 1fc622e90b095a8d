"""Golden frames: pictures with the scores that a finished model must give anywhere."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from bridge.inference.manifest import InputSpec
from models.toolkit.bundles.files import GoldenPicture
from models.toolkit.graphs.heads import SCORES
from models.toolkit.graphs.session import open_model
from models.toolkit.pictures.folder import Sample
from models.toolkit.pictures.prepared import Preparer


def scored(
    model: onnx.ModelProto, samples: Sequence[Sample], spec: InputSpec, labels: Sequence[str]
) -> list[GoldenPicture]:
    """Give each picture with what the finished model, `scores` 1 x labels, says of it; raises DataError."""
    session, preparer = open_model(model), Preparer(spec)
    found = []
    for sample in samples:
        scores = session.run([SCORES], {spec.name: preparer.tensor(sample)})[0][0].clip(0, 1)
        found.append(GoldenPicture(sample=sample, scores=dict(zip(labels, map(float, scores), strict=True))))
    return found
