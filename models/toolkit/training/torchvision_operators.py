"""timm imports torchvision, whose wheel may be of another build than torch (CPU and CUDA): then its operators are missing.

No net of `train` calls one of them. Without this, an installation that has everything it needs could train nothing.
"""

from __future__ import annotations

import functools
import importlib
import sys

import torch

_MISSING = ("nms", "qnms")


@functools.cache
def complete() -> torch.library.Library | None:
    """Make torchvision importable; declares what it wants to see where its own is missing. Raises ImportError or RuntimeError.

    Gives what holds the declarations, kept here: they go with it. None where torchvision is whole.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in _MISSING:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")
        return library
    return None
