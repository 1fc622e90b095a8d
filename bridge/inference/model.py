"""A model as the journey sees it: loaded, warm, checked on its golden frames, one worker thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2

from bridge.domain.part import Part
from bridge.domain.recipe import Threshold
from bridge.errors import BridgeError, BundleError, InferenceError
from bridge.inference.bundle import Bundle, read_bundle
from bridge.inference.picture import MAX_PIXELS
from bridge.inference.pipeline import Pipeline, Scored
from bridge.inference.trust import load_trust
from bridge.inference.worker import JOB_ERRORS, Worker
from bridge.ports import Frame, Inference

_STOP_WAIT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxSettings:
    """All that a model is built from; picklable, so that it can be built in another process.

    `bundle` is what `find_bundle` gives for a recipe's reference.
    `reductions` are the decode reductions that recipes will use: each is checked on the golden frames. `keep_warm_s` is
    how long no part may come before an idle run (0 = never). `threads` counts onnxruntime's, within one operator.
    """

    bundle: Path
    trusted_keys: Path | None = None
    require_signature: bool = True
    threads: int = 1
    spin: bool = False
    warm_up_runs: int = 5
    keep_warm_s: float = 1.0
    max_pixels: int = MAX_PIXELS
    reductions: tuple[int, ...] = (1,)


@dataclass(frozen=True, slots=True)
class _Loaded:
    bundle: Bundle
    pipeline: Pipeline
    deviation: float


class OnnxModel:
    """A Model on onnxruntime's CPU provider.

    `bundle` is what it was built from, without its files; `golden_deviation` the largest difference on golden frames.
    """

    def __init__(self, worker: Worker, loaded: _Loaded) -> None:
        self._worker, self._pipeline = worker, loaded.pipeline
        self.bundle = loaded.bundle
        self.golden_deviation = loaded.deviation

    @classmethod
    async def load(cls, settings: OnnxSettings) -> OnnxModel:
        """Verify the bundle, build the session, warm it up and check the golden frames, off the loop; raises BundleError."""
        worker = Worker(name=f"model-{settings.bundle.name}")
        try:
            loaded = await asyncio.wrap_future(worker.submit(partial(_load, settings, worker)))
        except (BridgeError, asyncio.CancelledError):
            worker.stop(wait_s=0)
            raise
        return cls(worker, loaded)

    @property
    def reference(self) -> str:
        """`name@version`."""
        return self.bundle.reference

    @property
    def sha256(self) -> str:
        """SHA-256 of the bundle's manifest, hexadecimal."""
        return self.bundle.sha256

    @property
    def labels(self) -> tuple[str, ...]:
        """The model's labels, in the order of its outputs."""
        return self.bundle.labels

    @property
    def good_labels(self) -> tuple[str, ...]:
        """The labels of good parts; empty where every label is a defect."""
        return self.bundle.good_labels

    @property
    def thresholds(self) -> Mapping[str, Threshold]:
        """Suggested limits for every label."""
        return self.bundle.thresholds

    async def infer(self, frame: Frame, part: Part) -> Inference:
        """Score one frame by the part's recipe; raises CameraError for the picture, InferenceError for the model.

        When the caller is cancelled, a job that has not begun is dropped; one that has begun is waited for by the next.
        """
        recipe = part.recipe
        job = partial(
            self._pipeline.score,
            frame.data,
            thresholds=recipe.thresholds,
            roi=recipe.roi,
            reduction=recipe.decode_reduction,
        )
        scored = await self._ask(job)
        return Inference(scores=scored.scores, timing_ms=scored.timing_ms)

    async def close(self) -> None:
        """Release the worker: the job at hand is waited for, 2 s at most."""
        await asyncio.to_thread(partial(self._worker.stop, wait_s=_STOP_WAIT_S))

    async def _ask(self, job: partial[Scored]) -> Scored:
        try:
            return await asyncio.wrap_future(self._worker.submit(job))
        except BridgeError:
            raise
        except JOB_ERRORS as exc:
            raise InferenceError(f"the model's worker failed: {type(exc).__name__}: {exc}") from exc


def _load(settings: OnnxSettings, worker: Worker) -> _Loaded:
    # OpenCV's own pool would compete with the loops and with onnxruntime for two cores
    cv2.setNumThreads(settings.threads)
    trust = load_trust(keys=settings.trusted_keys, require_signature=settings.require_signature)
    bundle = read_bundle(settings.bundle, trust)
    pipeline = Pipeline(bundle, threads=settings.threads, spin=settings.spin, max_pixels=settings.max_pixels)
    try:
        for _ in range(settings.warm_up_runs):
            pipeline.keep_warm()
    except InferenceError as exc:
        raise BundleError(f"{bundle.path}: the warm-up failed: {exc}") from exc
    deviation = pipeline.check_golden(bundle, tuple(dict.fromkeys((1, *settings.reductions))))
    worker.when_idle(pipeline.keep_warm, after_s=settings.keep_warm_s)
    # the session has its own copy of the weights
    return _Loaded(replace(bundle, files={}), pipeline, deviation)
