"""`python -P -m simulators.demo`: what `linegate demo` runs. Exit code 0 only if everything reconciles."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from simulators.demo.children import ChildError
from simulators.demo.options import DemoOptions, OptionsError, read_options
from simulators.demo.records import RecordsError
from simulators.demo.session import Session
from simulators.demo.setup import DEFAULT_PORTS, claimed_ports
from simulators.demo.view import draw, report_table
from simulators.plc.record import PlcRecordError
from simulators.truth import TruthError

REDRAW_S = 0.2


class Interrupted(Exception):  # noqa: N818 - it is no error: somebody pressed Ctrl-C twice
    """The run was broken off at once."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; gives the exit code: 0 reconciled, 1 not, or something failed, 2 bad usage."""
    try:
        options = read_options(arguments)
        with _folder(options) as folder, claimed_ports() as ports:
            return asyncio.run(_run(folder, options, ports))
    except OptionsError as exc:
        sys.stderr.write(f"linegate demo: {exc}\n")
        return 2
    except ChildError as exc:
        sys.stderr.write(f"linegate demo: {exc}\n")
        return 2 if exc.code == 2 else 1
    except (TruthError, PlcRecordError, RecordsError, OSError) as exc:
        sys.stderr.write(f"linegate demo: {exc}\n")
        return 1
    except (Interrupted, KeyboardInterrupt):
        sys.stderr.write("linegate demo: broken off\n")
        return 1


async def _run(folder: Path, options: DemoOptions, ports: Mapping[str, int]) -> int:
    console = Console()
    for name, port in ports.items():
        if port != DEFAULT_PORTS[name]:
            console.print(f"port {DEFAULT_PORTS[name]} ({name}) is busy: taking {port}")
    live = options.live_view and console.is_terminal and not console.is_dumb_terminal
    session = Session(folder=folder, options=options, ports=ports, say=_nothing if live else _plain)
    stop, broken_off = asyncio.Event(), asyncio.Event()
    logs = f"{folder / 'logs'}" + ("" if options.keep is not None else " until the end (--keep FOLDER keeps them)")
    console.print(f"starting broker, bridge, conveyor and PLC; logs in {logs}", soft_wrap=True, markup=False)
    with _interrupts(stop, broken_off):
        try:
            await _until(session, stop, broken_off, console if live else None)
        finally:
            problems = await session.stop()
    report = session.report(problems)
    console.print(report_table(report))
    _write(report, options)
    return 0 if report["reconciled"] else 1


async def _until(session: Session, stop: asyncio.Event, broken_off: asyncio.Event, console: Console | None) -> None:
    """Run the session to its end, drawing it when there is a terminal."""
    tasks = [asyncio.create_task(session.run(stop), name="session"), asyncio.create_task(broken_off.wait())]
    if console is not None:
        tasks.append(asyncio.create_task(_draw(session, console), name="view"))
    done, _ = await asyncio.wait(tasks[:2], return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if tasks[0] not in done:
        raise Interrupted
    tasks[0].result()


async def _draw(session: Session, console: Console) -> None:
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(draw(session.board, now_ns=time.monotonic_ns(), width=console.width), refresh=True)
            await asyncio.sleep(REDRAW_S)


def _nothing(_line: str) -> None:
    """Leave a line to the live view, which shows the same."""


def _plain(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _write(report: Mapping[str, Any], options: DemoOptions) -> None:
    if options.report is not None:
        options.report.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _folder(options: DemoOptions) -> Iterator[Path]:
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        yield options.keep
        return
    with tempfile.TemporaryDirectory(prefix="linegate-demo-") as folder:
        yield Path(folder)


@contextmanager
def _interrupts(stop: asyncio.Event, broken_off: asyncio.Event) -> Iterator[None]:
    """Let the first Ctrl-C (or SIGTERM) end the laying of parts, and the second break off."""
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        (broken_off if stop.is_set() else stop).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


if __name__ == "__main__":
    sys.exit(main())
