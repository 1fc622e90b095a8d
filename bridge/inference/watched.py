"""A model as the journey sees it: in a process of its own, watched, and started anew when it is lost.

A worker that has not answered within its limit, or does not answer a ping while nothing is asked of it, is killed: native
code can't be stopped in any other way. What is judged while no worker is warm gets ERROR at once. Time is counted in
turns of the loop, each for little, so that a bridge that was stopped and goes on hears the answers that wait for it first.
"""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass, replace

import structlog

from bridge.domain.part import Part
from bridge.domain.verdict import Inference
from bridge.errors import BundleError, InferenceError
from bridge.inference.settings import OnnxSettings
from bridge.inference.worker import Worker
from bridge.ports import BITMAP, Frame

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a worker may take, in s.

    It is looked at every `look_s`, pinged when idle for `ping_s`, and lost when it has not answered within ten times
    what is usual, but no less than `least_s` and no more than `most_s`, unless that is less than three times what is
    usual. The first start may take `start_s`, a later one five times what the first took, but no less than
    `restart_least_s`. The first loss is made good at once; each further one waits twice as long, `pause_most_s` at most, until a
    worker has lived for `steady_s`. From the `doubted_from`th on, no worker counts as warm before that.
    """

    look_s: float = 0.1
    ping_s: float = 0.5
    least_s: float = 1.0
    most_s: float = 2.0
    start_s: float = 60.0
    restart_least_s: float = 5.0
    pause_s: float = 0.5
    pause_most_s: float = 5.0
    steady_s: float = 10.0
    doubted_from: int = 3

    def limit_s(self, usual_s: float) -> float:
        """Give how long an answer may take where `usual_s` is usual."""
        return max(self.least_s, min(self.most_s, 10 * usual_s), 3 * usual_s)

    def restart_s(self, first_s: float) -> float:
        """Give how long a start may take where the first took `first_s`."""
        return min(self.start_s, max(self.restart_least_s, 5 * first_s))

    def pause_before(self, losses: int) -> float:
        """Give how long to wait before the start after the `losses`th loss in a row."""
        return 0.0 if losses <= 1 else min(self.pause_most_s, self.pause_s * 2.0 ** min(losses - 2, 10))


class Vigil:
    """Judges one worker's silence, look by look."""

    def __init__(self, patience: Patience, *, keep_warm_s: float, now_s: float) -> None:
        self._patience, self._keep_warm_s, self._before_s = patience, keep_warm_s, now_s
        self._asked = (0, 0)
        self._silent_s = self._idle_s = self._cold_s = 0.0
        self.lived_s = 0.0

    def look(self, now_s: float, worker: Worker) -> None:
        """Kill a worker that owes an answer for too long, ping one that nobody asks."""
        step_s, self._before_s = min(now_s - self._before_s, self._patience.least_s / 2), now_s
        self.lived_s += step_s
        self._cold_s += step_s
        asked, before = (worker.jobs, worker.pings), self._asked
        if asked != before:
            self._asked, self._silent_s, self._idle_s = asked, 0.0, 0.0
        if asked[0] != before[0]:
            self._cold_s = 0.0
        if worker.busy:
            self._silent_s += step_s
            limit_s = self._patience.limit_s(worker.usual_s)
            if self._silent_s >= limit_s:
                worker.kill(f"the inference worker did not answer for {limit_s:.1f} s and was killed")
            return
        self._idle_s += step_s
        if self._idle_s >= self._patience.ping_s:
            run = 0 < self._keep_warm_s <= self._cold_s
            worker.ping(run=run)
            if run:
                self._cold_s = 0.0


class WatchedModel:
    """A Model in a child process. Load and use it on the loop of the main thread; `close` leaves nothing running.

    `worker` is the process of the moment, or the one that was lost while none is warm.
    """

    def __init__(self, settings: OnnxSettings, worker: Worker, patience: Patience, *, restart_s: float) -> None:
        self._settings, self._patience, self._restart_s = settings, patience, restart_s
        self.worker = worker
        self._losses = 0
        self.reference = worker.ready.reference
        self.sha256 = worker.ready.sha256
        self.golden_deviation = worker.ready.golden_deviation
        self._trouble = ""
        self._keeper = asyncio.get_running_loop().create_task(self._keep(), name=f"watch of {self.reference}")

    @classmethod
    async def load(cls, settings: OnnxSettings, *, patience: Patience | None = None) -> WatchedModel:
        """Start the worker; raises BundleError when the model can't be loaded, warmed up or is off its golden scores."""
        patience, begun_s = patience or Patience(), time.monotonic()
        worker = await Worker.start(settings, limit_s=patience.start_s)
        # whatever lies at that path later: a worker started anew holds the same model
        kept = replace(settings, sha256=worker.ready.sha256)
        return cls(kept, worker, patience, restart_s=patience.restart_s(time.monotonic() - begun_s))

    @property
    def trouble(self) -> str:
        """Why parts can't be judged, or may not be for long; empty when all is well."""
        if self._trouble or self.worker.gone.done():
            return self._trouble or self.worker.gone.result()
        return "nothing watches the inference worker any more" if self._keeper.done() else ""

    async def infer(self, frame: Frame, part: Part) -> Inference:
        """Score one frame by the part's recipe; raises CameraError for the picture, InferenceError for the model."""
        if self.worker.gone.done():
            raise InferenceError(f"the inference worker is restarting: {self.trouble}")
        return await self.worker.infer(part.recipe, frame.data, ours=frame.media_type == BITMAP)

    async def close(self) -> None:
        """End the worker, whatever it is doing."""
        self._keeper.cancel()
        await asyncio.wait({self._keeper})
        await self.worker.close()

    async def _keep(self) -> None:
        """Have a worker at all times, as far as the model lets one live."""
        while True:
            self._lost(await self._watch())
            begun_s = time.monotonic()
            self.worker = await self._start_anew()
            if self._losses < self._patience.doubted_from:
                self._trouble = ""
            took_s = round(time.monotonic() - begun_s, 2)
            log.info("inference_worker_restarted", model=self.reference, after_s=took_s)

    def _lost(self, why: str) -> None:
        self._losses += 1
        self._trouble = why
        log.warning("inference_worker_lost", model=self.reference, cause=why, losses=self._losses)

    async def _start_anew(self) -> Worker:
        while True:
            await asyncio.sleep(self._patience.pause_before(self._losses))
            try:
                return await Worker.start(self._settings, limit_s=self._restart_s)
            except BundleError as exc:
                self._lost(str(exc))

    async def _watch(self) -> str:
        """Return once the worker is lost, with the reason."""
        worker, patience = self.worker, self._patience
        vigil = Vigil(patience, keep_warm_s=self._settings.keep_warm_s, now_s=time.monotonic())
        while not worker.gone.done():
            await asyncio.wait({worker.gone}, timeout=patience.look_s)
            if not worker.gone.done():
                vigil.look(time.monotonic(), worker)
            if vigil.lived_s >= patience.steady_s:
                self._losses, self._trouble = 0, ""
        code = await worker.close()
        if not worker.died or code is None:
            return worker.gone.result()
        return f"{worker.gone.result()}: {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"
