"""A model in the process that runs it: loaded, warm, checked on its golden frames."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import cv2

from bridge.domain.recipe import Threshold
from bridge.domain.verdict import Inference
from bridge.errors import BridgeError, BundleError, InferenceError
from bridge.inference.bundle import Bundle, read_bundle
from bridge.inference.pipeline import Pipeline
from bridge.inference.preprocess import Roi
from bridge.inference.settings import OnnxSettings
from bridge.inference.trust import load_trust

# all that a picture or a model may raise; anything else is a fault of ours and ends the worker
_FAILURES = (cv2.error, ArithmeticError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)


class OnnxModel:
    """A model on onnxruntime's CPU provider. Not thread-safe; every call blocks.

    `bundle` is what it was built from, without its files; `golden_deviation` the largest difference on golden frames;
    `usual_s` what one of them took.
    """

    def __init__(self, settings: OnnxSettings) -> None:
        """Verify the bundle, build the session, warm it up and check the golden frames; raises BundleError."""
        # OpenCV's own pool would compete with the loops and with onnxruntime for two cores
        cv2.setNumThreads(settings.threads)
        trust = load_trust(keys=settings.trusted_keys, require_signature=settings.require_signature)
        bundle = read_bundle(settings.bundle, trust)
        if settings.sha256 not in (None, bundle.sha256):
            raise BundleError(f"{bundle.path}: another bundle lies there now: its bundle.toml has been changed")
        self._pipeline = Pipeline(bundle, threads=settings.threads, spin=settings.spin, max_pixels=settings.max_pixels)
        try:
            for _ in range(settings.warm_up_runs):
                self._pipeline.keep_warm()
        except InferenceError as exc:
            raise BundleError(f"{bundle.path}: the warm-up failed: {exc}") from exc
        begun = time.perf_counter()
        reductions = tuple(dict.fromkeys((1, *settings.reductions)))
        self.golden_deviation = self._pipeline.check_golden(bundle, reductions)
        self.usual_s = (time.perf_counter() - begun) / (len(bundle.golden.frame) * len(reductions))
        # the session has its own copy of the weights
        self.bundle: Bundle = replace(bundle, files={})

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
        try:
            return self._pipeline.score(data, thresholds=thresholds, roi=roi, reduction=reduction, ours=ours)
        except BridgeError:
            raise
        except _FAILURES as exc:
            raise InferenceError(f"the model's worker failed: {type(exc).__name__}: {exc}") from exc

    def keep_warm(self) -> None:
        """Run the model once on whatever its input holds; raises InferenceError."""
        self._pipeline.keep_warm()
