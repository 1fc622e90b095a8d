"""GenICam cameras (GigE Vision, USB3 Vision, CoaXPress) through their maker's GenTL producer, with `harvesters`.

`harvesters` is an extra: it is imported when the first connection is made, by the camera's own thread.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import queue
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol

import cv2
import numpy as np

from bridge.errors import CameraError, ConfigError, first_line
from bridge.inputs.cameras.frames import Pixels
from bridge.inputs.cameras.stream import StreamCamera

TriggerMode = Literal["free", "software", "hardware"]
BUFFERS = 4
FREE_LIMIT_S = 2.0
LATE_ASK_NS = 50_000_000
_LOOK_S = 0.5
"""How often a camera that waits for triggers is asked whether it is still there."""

# GenICam Pixel Format Naming Convention -> samples a pixel, significant bits, OpenCV's conversion to BGR (None: as it is).
# OpenCV names Bayer patterns by the second row's second and third pixel, so RG there is BG here.
FORMATS: Mapping[str, tuple[int, int, int | None]] = MappingProxyType(
    {
        "Mono8": (1, 8, None),
        "Mono10": (1, 10, None),
        "Mono12": (1, 12, None),
        "Mono16": (1, 16, None),
        "BGR8": (3, 8, None),
        "RGB8": (3, 8, cv2.COLOR_RGB2BGR),
        "BGRa8": (4, 8, cv2.COLOR_BGRA2BGR),
        "RGBa8": (4, 8, cv2.COLOR_RGBA2BGR),
        "BayerRG8": (1, 8, cv2.COLOR_BayerBG2BGR),
        "BayerBG8": (1, 8, cv2.COLOR_BayerRG2BGR),
        "BayerGR8": (1, 8, cv2.COLOR_BayerGB2BGR),
        "BayerGB8": (1, 8, cv2.COLOR_BayerGR2BGR),
    }
)


class Acquirer(Protocol):
    """What is used of a harvesters `ImageAcquirer`."""

    remote_device: Any
    num_buffers: int

    def start(self) -> None:
        """Let the camera send."""

    def try_fetch(self, *, timeout: float) -> Any:
        """Give the next complete buffer, None after `timeout` s (which must not be 0)."""

    def stop(self) -> None:
        """End the acquisition."""

    def destroy(self) -> None:
        """Let the camera go."""


def require_harvesters() -> None:
    """Raise ConfigError where the optional package is not installed."""
    if importlib.util.find_spec("harvesters") is None:
        raise ConfigError('camera kind "genicam" needs the extra genicam: pip install "linegate[genicam]"')


def genicam_camera(
    producer: Path,
    *,
    device: str,
    trigger: TriggerMode,
    trigger_source: str,
    timeout_ms: float,
    max_age_ms: float,
    max_late_ms: float,
    latency_ms: float,
) -> StreamCamera:
    """Make a camera of a GenTL producer's device; raises ConfigError without the extra."""
    require_harvesters()
    name = f"genicam {device or producer.name}"

    def connect() -> GenicamStream:
        harvester = _Harvester(producer, name)
        return GenicamStream(
            harvester, name=name, device=device, trigger=trigger, trigger_source=trigger_source, wait_s=timeout_ms / 1e3
        )

    return StreamCamera(
        connect,
        name=name,
        timeout_ms=timeout_ms,
        max_age_ms=max_age_ms,
        max_late_ms=max_late_ms,
        latency_ms=latency_ms,
        free=trigger == "free",
    )


class Library(Protocol):
    """Where an acquirer comes from, and what it may raise."""

    errors: tuple[type[Exception], ...]

    def acquire(self, device: str) -> Acquirer:
        """Open a device by id or serial number, the only one for an empty text; raises CameraError."""

    def reset(self) -> None:
        """Let the producer go."""


class _Harvester:
    """`harvesters` with one producer loaded."""

    def __init__(self, producer: Path, name: str) -> None:
        core = importlib.import_module("harvesters.core")
        gentl = importlib.import_module("genicam.gentl")
        genapi = importlib.import_module("genicam.genapi")
        self.errors: tuple[type[Exception], ...] = (
            gentl.GenericException,
            genapi.GenericException,
            OSError,
            ValueError,
            LookupError,
            RuntimeError,
        )
        self._name = name
        # it would write a traceback at each attempt; the reason is told once, with the alarm
        logging.getLogger("harvesters.core").setLevel(logging.CRITICAL)
        self._harvester = core.Harvester()
        try:
            self._harvester.add_file(str(producer), check_existence=True, check_validity=True)
            self._harvester.update()
        except self.errors as exc:
            raise CameraError(f"{name}: the GenTL producer {producer} can't be loaded: {_first_line(exc)}") from exc

    def acquire(self, device: str) -> Acquirer:
        found = self._harvester.device_info_list
        names = [(one.id_, _serial(one)) for one in found]
        fitting = [place for place, known in enumerate(names) if device in known or not device]
        if len(fitting) != 1:
            seen = ", ".join(f"{id_} (serial {serial})" for id_, serial in names) or "none"
            wanted = f"device = {device!r} is not one of them" if device else "set device to one of them"
            raise CameraError(f"{self._name}: the producer sees these cameras: {seen}; {wanted}")
        acquirer: Acquirer = self._harvester.create(fitting[0])
        return acquirer

    def reset(self) -> None:
        self._harvester.reset()


class GenicamStream:
    """One opened camera: free running, by a software trigger at each part, or by its own input line."""

    def __init__(
        self, library: Library, *, name: str, device: str, trigger: TriggerMode, trigger_source: str, wait_s: float
    ) -> None:
        """Open, set up and start it; raises CameraError."""
        self._library = library
        self._name = name
        self._trigger = trigger
        self._wait_s = wait_s
        self._asked: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.fired_ns: int | None = None
        self._acquirer: Acquirer | None = None
        try:
            self._acquirer = library.acquire(device)
            self._nodes = self._acquirer.remote_device.node_map
            self._set_trigger(trigger_source)
            self._acquirer.num_buffers = BUFFERS
            self._acquirer.start()
        except CameraError:
            self.close()
            raise
        except library.errors as exc:
            self.close()
            raise CameraError(f"{name}: can't be opened: {_first_line(exc)}") from exc

    def _set_trigger(self, source: str) -> None:
        """Set the standard features; a camera that has none can only run free. GenICam SFNC 5.1."""
        nodes = self._nodes
        if not nodes.has_node("TriggerMode"):
            if self._trigger == "free":
                return
            raise CameraError(f'{self._name}: has no TriggerMode: set trigger = "free"')
        if nodes.has_node("TriggerSelector"):
            nodes.get_node("TriggerSelector").value = "FrameStart"
        if self._trigger != "free":
            nodes.get_node("TriggerSource").value = "Software" if self._trigger == "software" else source
        nodes.get_node("TriggerMode").value = "Off" if self._trigger == "free" else "On"

    def ask(self) -> int | None:
        """Have the camera's thread fire the software trigger; gives the present moment, None for another trigger."""
        if self._trigger != "software":
            return None
        now_ns = time.monotonic_ns()
        self._asked.put(now_ns)
        return now_ns

    def read(self) -> Pixels | None:
        """Give the next frame; None when a camera that waits for its trigger is well. Raises CameraError."""
        try:
            if self._trigger == "free":
                return self._fetch(FREE_LIMIT_S, f"no frame for {FREE_LIMIT_S * 1e3:.0f} ms")
            if self._trigger == "hardware":
                return self._fetch(_LOOK_S, None)
            if time.monotonic_ns() - self._asked.get(timeout=_LOOK_S) > LATE_ASK_NS:
                return None  # the frame of the part before took long: by now this part is elsewhere
            self.fired_ns = time.monotonic_ns()
            self._nodes.get_node("TriggerSoftware").execute()
            # a frame that came later still could be taken for the next part's: the connection is made anew
            return self._fetch(self._wait_s, f"no frame within {self._wait_s * 1e3:g} ms of its software trigger")
        except queue.Empty:
            self._prove_present()
            return None
        except self._library.errors as exc:
            raise CameraError(f"{self._name}: lost: {_first_line(exc)}") from exc

    def _fetch(self, limit_s: float, missing: str | None) -> Pixels | None:
        assert self._acquirer is not None
        buffer = self._acquirer.try_fetch(timeout=limit_s)
        if buffer is None:
            if missing is not None:
                raise CameraError(f"{self._name}: {missing}")
            self._prove_present()
            return None
        try:
            return _pixels(buffer.payload.components[0], self._name)
        finally:
            buffer.queue()

    def _prove_present(self) -> None:
        """Read a register over the wire, past the cache; raises CameraError when the camera does not answer."""
        try:
            self._nodes.get_node("Width").get_value(False, True)
        except self._library.errors as exc:
            raise CameraError(f"{self._name}: lost: {_first_line(exc)}") from exc

    def close(self) -> None:
        """Let the camera go, as far as one that is gone can be."""
        steps = [self._library.reset]
        if self._acquirer is not None:
            steps = [self._acquirer.stop, self._acquirer.destroy, *steps]
        for step in steps:
            try:
                step()
            except self._library.errors:
                continue  # it is lost already; the steps behind this one still free what this process holds


def _pixels(component: Any, name: str) -> Pixels:
    """Copy a buffer's picture as BGR or grey, 8 bits; raises CameraError for a pixel format not in the table."""
    known = FORMATS.get(component.data_format)
    if known is None:
        allowed = ", ".join(FORMATS)
        raise CameraError(f"{name}: PixelFormat {component.data_format} can't be used: allowed are {allowed}")
    samples, bits, conversion = known
    shape = (component.height, component.width) if samples == 1 else (component.height, component.width, samples)
    if component.data.size != component.height * component.width * samples:
        raise CameraError(
            f"{name}: a frame of {component.data.size} samples, not {component.width} x {component.height}"
        )
    raw = component.data.reshape(shape)
    if bits > 8:
        return np.asarray(np.right_shift(raw, bits - 8), dtype=np.uint8)
    if conversion is None:
        return np.array(raw, dtype=np.uint8)
    return np.asarray(cv2.cvtColor(raw, conversion), dtype=np.uint8)


def _serial(info: Any) -> str:
    return str(info.property_dict.get("serial_number") or "")


def _first_line(exc: Exception) -> str:
    return first_line(exc)[:200]
