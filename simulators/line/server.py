"""The conveyor in real time: `python -P -m simulators.line.server`.

Serves the field's I/O by Modbus TCP, publishes MQTT triggers, and lives through the simulation up to the exact moment
of everything that reaches it from outside. Events go to stdout as lines of JSON; what really happened is written to
`--truth FILE` at the end. With `--wait` parts are laid once a line `start` arrives on stdin; `stop` ends the laying.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from simulators.faults import FaultFileError, FaultSchedule, read_faults
from simulators.line.camera import PictureFolderError, ReplayCamera, find_pictures
from simulators.line.conveyor import Conveyor, Laying, LineEvent
from simulators.line.field_io import FieldState
from simulators.line.geometry import add_geometry_options, geometry_from
from simulators.line.marks import Mark
from simulators.line.modbus import FieldServer, PortBusyError, Watchdog
from simulators.line.triggers import IMAGE_FORMS, TriggerPublisher, encode_trigger, encoded, read_picture
from simulators.process import die_with_parent, read_lines, run_first, say, settle_memory, stop_signals
from simulators.truth import LineTruth, write_truth

DEFAULT_IMAGES = Path(__file__).parent.parent / "pictures" / "ball-screw"
BELT_EVERY_S = 0.1
BELT_FOR_A_PERSON_S = 2.0
LAST_READ_S = 1.0
"""A conveyor that ends by itself lets the PLC read the bin's last count first."""
REMEMBERED = 256


class Driver:
    """The one place where simulated time meets real time. All calls come on one loop.

    What reaches the line from outside does so at its own moment: `take` is called before the line lives on past it.
    """

    def __init__(self, conveyor: Conveyor, publisher: TriggerPublisher | None, options: argparse.Namespace) -> None:
        self._conveyor, self._publisher, self._options = conveyor, publisher, options
        self._rests_in_reject = options.rest == "reject"
        self._gate_on = False
        self._unguarded_ns: int | None = None
        self._unguarded: list[tuple[int, int]] = []
        self._wake = asyncio.Event()
        self._next_ns: int | None = None
        self._lived_ns = 0
        self._utc_offset_ns = time.time_ns() - time.monotonic_ns()

    def read(self, moment_ns: int) -> FieldState:
        """Give the field's inputs as they were at this moment."""
        return self._conveyor.state_at(self._advance(moment_ns))

    def write_gate(self, on: bool, moment_ns: int) -> None:
        """Take the gate's command of this moment."""
        changed, self._gate_on = on != self._gate_on, on
        if (since_ns := self._unguarded_ns) is not None:
            self._unguarded_ns = None
            self._unguarded.append((since_ns, max(since_ns, moment_ns)))
            say("guarded")
        at_ns = self._advance(moment_ns)
        if changed:
            say("gate", on=on, at_ns=at_ns)

    def unguarded(self, why: str) -> None:
        """Put the gate into its position for rejects until somebody writes the coil again: nobody guards the parts."""
        self._unguarded_ns = time.monotonic_ns()
        self._advance()
        if not self._conveyor.finished:
            say("unguarded", text=why)

    def start(self) -> None:
        """Begin to lay parts."""
        self._advance()
        self._conveyor.start(time.monotonic_ns())
        self._wake.set()

    def stop_laying(self) -> None:
        """Lay no more parts."""
        self._advance()
        self._conveyor.stop_laying()
        self._wake.set()

    async def run(self, stop: asyncio.Event, take: Callable[[], Awaitable[None]]) -> None:
        """Live through the line's events as their moments come, until told to stop."""
        told_belt_s, told_finished = 0.0, False
        belt_every_s = BELT_EVERY_S if self._options.wait else BELT_FOR_A_PERSON_S
        while not stop.is_set():
            await take()
            now_ns = self._advance()
            if now_ns / 1e9 - told_belt_s >= belt_every_s:
                told_belt_s = now_ns / 1e9
                belt = self._conveyor.belt
                if self._options.truth is None:
                    self._conveyor.forget(keep=REMEMBERED)
                say("belt", at_ns=now_ns, mm=round(belt.position_at(now_ns), 1), mm_s=round(belt.speed_at(now_ns), 1))
            if self._conveyor.finished and not told_finished:
                told_finished = True
                say("finished", parts=self._conveyor.laid)
                if not self._options.wait:
                    asyncio.get_running_loop().call_later(LAST_READ_S, stop.set)
            wait_s = BELT_EVERY_S
            if self._next_ns is not None:
                wait_s = min(wait_s, max(0.0, (self._next_ns - time.monotonic_ns()) / 1e9))
            self._wake.clear()
            if wait_s > 0:
                await _first_of(self._wake, wait_s)
            else:
                await asyncio.sleep(0)

    def truth(self) -> LineTruth:
        """Give what really happened up to now."""
        now_ns = self._advance()
        gate = self._conveyor.gate
        return LineTruth(
            parts=tuple(self._conveyor.truths),
            gate_fully_open=tuple(gate.fully_open),
            gate_sweeps=tuple(gate.sweeps_until(now_ns)),
            unguarded=tuple(self._unguarded_until(now_ns)),
            utc_offset_ns=self._utc_offset_ns,
        )

    def _unguarded_until(self, now_ns: int) -> list[tuple[int, int]]:
        return [*self._unguarded, *([] if self._unguarded_ns is None else [(self._unguarded_ns, now_ns)])]

    def _advance(self, moment_ns: int | None = None) -> int:
        """Live on to a moment, else to now; gives it, or how far the line has lived already if that is later."""
        self._lived_ns = now_ns = max(self._lived_ns, moment_ns or time.monotonic_ns())
        reject = self._gate_on != self._rests_in_reject or self._unguarded_ns is not None
        events, self._next_ns = self._conveyor.update(now_ns, gate_on=reject)
        for event in events:
            self._tell(event)
        return now_ns

    def _tell(self, event: LineEvent) -> None:
        if event.fault is not None:
            say("fault", at_ns=event.at_ns, kind=event.fault.kind, **asdict(event.fault))
            return
        if event.part is None:
            say(event.kind, at_ns=event.at_ns, text=event.text)
            return
        part = event.part
        if event.kind == "at_eye":
            if self._publisher is not None:
                self._publish(event, self._publisher)
            say(
                "at_eye", at_ns=event.at_ns, sequence=part.sequence, part_id=part.part_id, label=part.picture.label,
                front_mm=round(part.front_mm, 1), copies=event.copies, touching=part.eye_on_ns is not None,
            )  # fmt: skip
        else:
            say(event.kind, at_ns=event.at_ns, sequence=part.sequence)

    def _publish(self, event: LineEvent, publisher: TriggerPublisher) -> None:
        part = event.part
        if part is None:
            return
        message = encode_trigger(
            sequence=part.sequence,
            part_id=part.part_id,
            utc_ns=part.at[Mark.BEAM] + self._utc_offset_ns + (part.clock_off_ns or 0),
            count=part.count if part.clock_off_ns is None else None,
            length_mm=self._options.part_length,
            picture=part.picture if part.pictured else None,
            form=self._options.image_form,
            eye_on_ms=None if part.eye_on_ns is None else part.eye_on_ns / 1e6,
        )
        for _ in range(event.copies):
            publisher.publish(message)


async def _first_of(event: asyncio.Event, wait_s: float) -> None:
    loop = asyncio.get_running_loop()
    timer = loop.call_later(wait_s, event.set)
    await event.wait()
    timer.cancel()


async def serve(options: argparse.Namespace) -> int:
    """Run the conveyor until it is told to stop; gives the exit code."""
    camera = ReplayCamera(
        find_pictures(options.images, seed=None if options.sorted else options.seed), good_labels=options.good
    )
    conveyor = Conveyor(
        now_ns=time.monotonic_ns(),
        camera=camera,
        geometry=geometry_from(options),
        laying=Laying(
            parts=options.parts or None,
            spacing_mm=options.spacing,
            jitter_mm=options.jitter,
            seed=options.seed,
            first_sequence=options.first_sequence,
        ),
        speed_mm_s=options.speed,
        first_count=options.first_count,
        faults=FaultSchedule(read_faults(options.faults) if options.faults else ()),
    )
    publisher = None
    if options.trigger == "mqtt":
        publisher = TriggerPublisher(
            host=options.mqtt_host,
            port=options.mqtt_port,
            topic=f"{options.mqtt_root}/{options.line}/{options.station}/trigger",
            client_id=f"linegate-conveyor-{options.line}-{options.station}",
        )
        for picture in camera.pictures[:64]:
            read_picture(picture.path) if options.image_form == "raw" else encoded(picture.path)
    return await _run(options, Driver(conveyor, publisher, options), publisher)


async def _run(options: argparse.Namespace, driver: Driver, publisher: TriggerPublisher | None) -> int:
    stop = asyncio.Event()
    watchdog = Watchdog(limit_ms=options.watchdog_ms, unguarded=driver.unguarded)
    server = FieldServer(read=driver.read, write_gate=driver.write_gate, watchdog=watchdog)
    port = await server.start(options.host, options.port)
    if (warning := run_first()) is not None:
        logging.getLogger(__name__).warning("conveyor: %s", warning)
    if publisher is not None:
        publisher.start()
    settle_memory()
    say("ready", port=port, parts=options.parts)
    with stop_signals(stop):
        if options.wait:
            commands = {"start": driver.start, "stop": driver.stop_laying}
            read_lines(lambda line: commands.get(line, lambda: None)(), stop.set)
        else:
            driver.start()
        await driver.run(stop, server.take)
    if options.truth is not None:
        write_truth(driver.truth(), options.truth)
    if publisher is not None:
        publisher.stop()
    await server.stop()
    return 0


def parser() -> argparse.ArgumentParser:
    """Make the command line."""
    options = argparse.ArgumentParser(prog="linegate simulate conveyor", description="Simulate a conveyor line.")
    options.add_argument("--host", default="127.0.0.1", help="address that the field I/O listens on")
    options.add_argument("--port", type=int, default=5021, help="Modbus TCP port of the field I/O [5021]")
    options.add_argument("--mqtt-host", default="127.0.0.1", help="broker for the triggers")
    options.add_argument("--mqtt-port", type=int, default=1883)
    options.add_argument("--mqtt-root", default="linegate")
    options.add_argument("--line", default="line1")
    options.add_argument("--station", default="station1")
    options.add_argument("--trigger", choices=("mqtt", "none"), default="mqtt", help="none: the PLC triggers")
    options.add_argument(
        "--image-form", choices=IMAGE_FORMS, default="inline", help="how a trigger carries its picture"
    )
    options.add_argument("--images", type=Path, default=DEFAULT_IMAGES, help="a sub-folder for each label")
    options.add_argument("--good", action="append", help="label of good parts, may be repeated [good]")
    options.add_argument("--sorted", action="store_true", help="pictures in the order of their names, not shuffled")
    options.add_argument("--parts", type=int, default=0, help="parts to lay, then end [0: for ever]")
    options.add_argument("--speed", type=float, default=1200.0, help="belt speed in mm/s [1200]")
    options.add_argument("--spacing", type=float, default=180.0, help="pitch in mm, front edge to front edge [180]")
    options.add_argument("--jitter", type=float, default=0.0, help="how far a pitch may vary, in mm [0]")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--first-sequence", type=int, default=1)
    options.add_argument("--first-count", type=int, default=0, help="encoder count at the start")
    options.add_argument("--faults", type=Path, help="TOML file of faults")
    options.add_argument(
        "--rest",
        choices=("pass", "reject"),
        default="pass",
        help="position of the gate with its coil off: reject for a bridge that fires it [pass]",
    )
    options.add_argument(
        "--watchdog-ms",
        type=float,
        default=0.0,
        help="put the gate into its position for rejects once the writer of its coil asks for nothing for so long [0: off]",
    )
    options.add_argument("--truth", type=Path, help="JSON file for what really happened, written at the end")
    options.add_argument("--wait", action="store_true", help="lay parts after a line `start` on stdin; its end stops")
    options.add_argument("--parent", type=int, help="process id to die with")
    add_geometry_options(options)
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code."""
    options = parser().parse_args(arguments)
    options.good = options.good or ["good"]
    die_with_parent(options.parent)
    if options.spacing - options.jitter <= options.part_length:
        sys.stderr.write(
            f"--spacing {options.spacing:g} less --jitter {options.jitter:g} must be more than the part's length, "
            f"{options.part_length:g} mm\n"
        )
        return 2
    try:
        return asyncio.run(serve(options))
    except (FaultFileError, PictureFolderError) as exc:
        sys.stderr.write(f"conveyor: {exc}\n")
        return 2
    except PortBusyError as exc:
        sys.stderr.write(f"conveyor: {exc}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
