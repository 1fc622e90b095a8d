"""What it costs that the model lives in a process of its own: `python -P -m benchmarks.worker [--parts N]`.

The same pictures go in turns to a thread of this process and to the worker process. Printed is what passes between asking
and having the answer beyond what the model itself reports, in ms.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.resources
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.figures import quantile
from bridge.domain.recipe import Recipe
from bridge.domain.verdict import Inference
from bridge.inference.model import OnnxModel
from bridge.inference.settings import OnnxSettings
from bridge.inference.worker import Worker

Ask = Callable[[bytes], Awaitable[Inference]]
_START_S = 60.0


async def measure(bundle: Path, *, parts: int, size: int, pause_s: float) -> dict[str, list[float]]:
    """Give the cost of each call in ms, for "thread" and "process"; pictures are filled up to `size` bytes."""
    settings = OnnxSettings(bundle=bundle)
    here, worker = OnnxModel(settings), await Worker.start(settings, limit_s=_START_S)
    picture = sorted((bundle / "golden").glob("*.jpg"))[0].read_bytes()
    picture += bytes(max(0, size - len(picture)))  # what follows the end marker is read by nobody, but travels
    threads, loop = ThreadPoolExecutor(1), asyncio.get_running_loop()
    score = partial(here.score, thresholds={}, roi=None, reduction=1)
    recipe = Recipe(name="r", number=1, revision=1, bundle="b", labels=())
    ways: dict[str, Ask] = {
        "thread": lambda data: loop.run_in_executor(threads, score, data),
        "process": lambda data: worker.infer(recipe, data),
    }
    costs: dict[str, list[float]] = {name: [] for name in ways}
    try:
        for _ in range(parts):
            for name, ask in ways.items():
                await asyncio.sleep(pause_s)
                begun = time.perf_counter()
                inference = await ask(picture)
                took_ms = (time.perf_counter() - begun) * 1e3
                costs[name].append(took_ms - sum(inference.timing_ms.values()))
    finally:
        await worker.close()
        threads.shutdown()
    return costs


def main() -> int:
    """Measure and print; gives the exit code."""
    options = argparse.ArgumentParser(prog="benchmarks.worker", description="The cost of the worker process.")
    options.add_argument("--parts", type=int, default=200, help="pictures for each way [200]")
    options.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000, 16_000_000], help="bytes")
    options.add_argument("--bundle", type=Path, help="model bundle, a folder [the shipped one]")
    chosen = options.parse_args()
    folder = Path(str(importlib.resources.files("models"))) / "bundles"
    bundle = chosen.bundle or sorted(folder.glob("ball-screw-*"))[-1]
    for size in chosen.sizes:
        costs = asyncio.run(measure(bundle, parts=chosen.parts, size=size, pause_s=0.005))
        told = "  ".join(
            f"{name} p10 {quantile(each, 0.1):.2f} p50 {quantile(each, 0.5):.2f} p90 {quantile(each, 0.9):.2f}"
            for name, each in costs.items()
        )
        print(f"{size / 1e3:8.0f} kB  {told}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
