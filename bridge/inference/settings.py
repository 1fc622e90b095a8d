"""What a model is built from: plain data, so that the process that builds it can be another one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MAX_PIXELS = 50_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxSettings:
    """All that a model is built from; picklable, so that it can be built in another process.

    `bundle` is what `find_bundle` gives for a recipe's reference; with `sha256`, that of its manifest, no other bundle
    is taken in its place. `reductions` are the decode reductions that recipes will use: each is checked on the golden
    frames. `keep_warm_s` is how long no part may come before an idle run (0 = never). `threads` counts onnxruntime's,
    within one operator.
    """

    bundle: Path
    sha256: str | None = None
    trusted_keys: Path | None = None
    require_signature: bool = True
    threads: int = 1
    spin: bool = False
    warm_up_runs: int = 2
    keep_warm_s: float = 1.0
    max_pixels: int = MAX_PIXELS
    reductions: tuple[int, ...] = (1,)
