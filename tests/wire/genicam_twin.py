"""A hand-written twin of the few calls that a GenICam camera makes of `harvesters`: one device that can be unplugged."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np


class GoneError(Exception):
    """What the twin raises once it is unplugged."""


class Node:
    """One feature; a command is executed, a register read past the cache."""

    def __init__(self, device: Device, value: Any = None, *, run: Callable[[], None] | None = None) -> None:
        self._device, self._run, self.value = device, run, value

    def get_value(self, verify: bool, ignore_cache: bool) -> Any:
        assert (verify, ignore_cache) == (False, True), "the cache knows nothing of a lost camera"
        self._device.check()
        return self.value

    def execute(self) -> None:
        self._device.check()
        assert self._run is not None
        self._run()


class Device:
    """A camera with the standard trigger features, and the calls of an ImageAcquirer."""

    def __init__(self, *, features: bool = True) -> None:
        self.frames: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.lost = False
        self.mute = False
        self.delay_s = 0.0
        self.taken = 0
        self.queued = 0
        self.ended: list[str] = []
        self.num_buffers = 0
        names = (
            {"TriggerSelector": "AcquisitionStart", "TriggerMode": "Off", "TriggerSource": "Line3"} if features else {}
        )
        self.nodes = {name: Node(self, value) for name, value in names.items()} | {
            "Width": Node(self, 8),
            "TriggerSoftware": Node(self, run=self.expose),
        }
        self.remote_device = SimpleNamespace(node_map=self)

    def has_node(self, name: str) -> bool:
        return name in self.nodes

    def get_node(self, name: str) -> Node:
        return self.nodes[name]

    def check(self) -> None:
        if self.lost:
            raise GoneError("GenTL exception: the device is gone (ID: -1010)\nmore of it")

    def expose(self) -> None:
        """Take one frame, whose grey is its number."""
        self.taken += 1
        time.sleep(self.delay_s)
        if not self.mute:
            self.send("Mono8", np.full(48, self.taken, np.uint8))

    def send(self, data_format: str, samples: np.ndarray) -> None:
        part = SimpleNamespace(data_format=data_format, width=8, height=6, data=samples)
        payload = SimpleNamespace(components=[part])
        self.frames.put(SimpleNamespace(payload=payload, queue=self._queue))

    def _queue(self) -> None:
        self.queued += 1

    def start(self) -> None:
        self.check()

    def try_fetch(self, *, timeout: float) -> Any:
        assert timeout > 0, "0 is no limit at all"
        until_s = time.monotonic() + timeout
        while time.monotonic() < until_s:
            self.check()
            with contextlib.suppress(queue.Empty):
                return self.frames.get(timeout=0.01)
        return None

    def stop(self) -> None:
        self.ended.append("stop")
        self.check()

    def destroy(self) -> None:
        self.ended.append("destroy")


class Producer:
    """The twin of the library with one device."""

    errors = (GoneError, OSError, ValueError)

    def __init__(self, device: Device) -> None:
        self.device = device

    def acquire(self, device: str) -> Device:
        self.device.check()
        return self.device

    def reset(self) -> None:
        self.device.ended.append("reset")
