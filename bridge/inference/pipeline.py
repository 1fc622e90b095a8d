"""From encoded picture to scores in one thread: decode, preprocess, run, read the head."""

from __future__ import annotations

import time
from collections.abc import Mapping

from bridge.domain.recipe import Threshold
from bridge.domain.verdict import Inference, Scores
from bridge.errors import BundleError, CameraError, InferenceError
from bridge.inference.bundle import Bundle
from bridge.inference.heads.cells import read_cells
from bridge.inference.heads.classifier import Tensors, read_scores
from bridge.inference.onnx import OnnxSession
from bridge.inference.picture import decode
from bridge.inference.preprocess import Placement, Preprocessor, Roi
from bridge.inference.settings import MAX_PIXELS


class Pipeline:
    """One model with its buffers. Not thread-safe: one worker owns it."""

    def __init__(self, bundle: Bundle, *, threads: int = 1, spin: bool = False, max_pixels: int = MAX_PIXELS) -> None:
        """Build the session and check its shapes against the manifest; raises BundleError."""
        manifest = bundle.manifest
        self._manifest, self._suggested, self._max_pixels = manifest, bundle.thresholds, max_pixels
        where = str(bundle.path)
        self._session = OnnxSession(
            bundle.model, external_data=bundle.external_data, where=where, threads=threads, spin=spin
        )
        names = (manifest.output.scores, *((manifest.output.cells,) if manifest.output.cells else ()))
        self._session.expect(
            name=manifest.input.name, shape=manifest.input.shape, dtype=manifest.input.dtype, outputs=names
        )
        self._preprocessor = Preprocessor(manifest.input)

    def score(
        self,
        data: bytes,
        *,
        thresholds: Mapping[str, Threshold],
        roi: Roi | None,
        reduction: int,
        ours: bool = False,
    ) -> Inference:
        """Score one encoded picture, BMP only if it is `ours`; raises CameraError for it, InferenceError for the model."""
        start = time.perf_counter_ns()
        colour = self._manifest.input.colour
        picture = decode(data, colour=colour, reduction=reduction, max_pixels=self._max_pixels, ours=ours)
        decoded = time.perf_counter_ns()
        placement = self._preprocessor.fill(picture, roi)
        ready = time.perf_counter_ns()
        scores = self._read(self._session.run(self._preprocessor.tensor), thresholds, placement)
        end = time.perf_counter_ns()
        timing = {
            "decode": (decoded - start) / 1e6,
            "preprocess": (ready - decoded) / 1e6,
            "inference": (end - ready) / 1e6,
        }
        return Inference(scores=scores, timing_ms=timing)

    def keep_warm(self) -> None:
        """Run the model once on whatever its input holds, so that code and weights stay in the caches."""
        self._session.run(self._preprocessor.tensor)

    def check_golden(self, bundle: Bundle, reductions: tuple[int, ...] = (1,)) -> float:
        """Score the golden frames and give the largest deviation; raises BundleError where it is over the tolerance."""
        worst, tolerance = 0.0, bundle.golden.tolerance
        for frame in bundle.golden.frame:
            data = bundle.files[f"golden/{frame.file}"]
            for reduction in reductions:
                where = f"{bundle.path}: golden frame {frame.file}"
                if reduction != 1:
                    where += f" at decode_reduction = {reduction}"
                try:
                    scored = self.score(data, thresholds=bundle.thresholds, roi=None, reduction=reduction)
                except (CameraError, InferenceError) as exc:
                    raise BundleError(f"{where}: {exc}") from exc
                for label, expected in frame.scores.items():
                    given = scored.scores.by_label[label]
                    worst = max(worst, abs(given - expected))
                    if abs(given - expected) > tolerance:
                        raise BundleError(f"{where}: {label} scores {given:.4f}, not {expected:.4f} +- {tolerance:g}")
        return worst

    def _read(self, outputs: Tensors, thresholds: Mapping[str, Threshold], placement: Placement) -> Scores:
        manifest = self._manifest
        if manifest.output.cells is None:
            return read_scores(outputs, manifest.output.scores, manifest.labels)
        defects = [label for label in manifest.labels if label not in manifest.good_labels]
        return read_cells(
            outputs,
            scores=manifest.output.scores,
            cells=manifest.output.cells,
            labels=manifest.labels,
            limits={label: thresholds.get(label, self._suggested[label]).region for label in defects},
            input_size=(manifest.input.width, manifest.input.height),
            placement=placement,
        )
