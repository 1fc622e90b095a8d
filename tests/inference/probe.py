"""Frames and parts for the probe bundle of `build`, and a look at the processes of this machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge.domain.part import Part, Trigger
from bridge.domain.recipe import Recipe
from bridge.inference.settings import OnnxSettings
from bridge.inference.watched import Patience, WatchedModel
from bridge.ports import Frame
from tests.inference.build import encoded, picture, write_bundle

RECIPE = Recipe(name="probe", number=1, revision=1, bundle="probe", labels=("bright", "dark"), good_labels=("dark",))


def part(**changes: Any) -> Part:
    trigger = Trigger(sequence=1, part_id="1", arrived_ns=0)
    recipe = replace(RECIPE, **changes)
    return Part(
        line="l", station="s", trigger=trigger, epoch=1, triggered_ns=0, triggered_utc_ns=0, length_mm=1, recipe=recipe
    )


def frame(data: bytes) -> Frame:
    return Frame(data=data, media_type="image/jpeg", captured_utc_ns=0)


def grey(value: int) -> Frame:
    return frame(encoded(picture(value=value), ".png"))


def probe_settings(folder: Path, **changes: Any) -> OnnxSettings:
    return OnnxSettings(**({"bundle": folder, "require_signature": False, "keep_warm_s": 0} | changes))


@asynccontextmanager
async def watched(
    folder: Path, *, patience: Patience | None = None, settings: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[WatchedModel]:
    """The probe in a process of its own, closed at the end."""
    made = probe_settings(write_bundle(folder, **options), **(settings or {}))
    model = await WatchedModel.load(made, patience=patience)
    try:
        yield model
    finally:
        await model.close()


async def until(holds: Callable[[], Any], limit_s: float = 15.0) -> Any:
    async with asyncio.timeout(limit_s):
        while not (value := holds()):
            await asyncio.sleep(0.01)
    return value


def state_of(pid: int) -> str:
    """The state letter of a process (R, S, T stopped, Z zombie); empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def workers_of(parent: int | None = None) -> list[int]:
    """The worker processes that a process has started, zombies included."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdecimal() else []
            if len(words) > 1 and int(words[1]) == (parent or os.getpid()):
                command = (entry / "cmdline").read_bytes()
                if words[0] == "Z" or b"bridge.inference.child" in command:
                    found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
