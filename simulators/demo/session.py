"""One run of the demo: everything is started, watched, stopped in order, and reconciled."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from simulators.demo.board import Board
from simulators.demo.children import Child, ChildError
from simulators.demo.observer import Observer
from simulators.demo.options import SEED, DemoOptions
from simulators.demo.process_faults import ProcessFaults
from simulators.demo.records import last_sequence, read_gate_events, read_verdicts
from simulators.demo.relay import Relay
from simulators.demo.setup import HOST, fill_camera_folder, prepare_recipe, unsaid, write_config
from simulators.evidence import Evidence, Observed
from simulators.fault_kinds import NetworkDelay
from simulators.plc.record import PlcRecord, read_plc_record
from simulators.plc.tables import U32
from simulators.reconcile import reconcile
from simulators.truth import read_truth

READY_S = 90.0
LINKED_S = 20.0
QUIET_S = 4.0
SETTLE_S = 0.5
RECOVERED_S = 10.0
WATCHDOG_MS = 500


class Session:
    """The demo's children and what they say; `say` gets a line for people now and then."""

    def __init__(
        self, *, folder: Path, options: DemoOptions, ports: Mapping[str, int], say: Callable[[str], None]
    ) -> None:
        self.board = Board(goal=options.parts)
        self._folder, self._options, self._ports, self._say = folder, options, ports, say
        self._began_utc_ns = time.time_ns()
        self._observer: Observer | None = None
        self._database = folder / "data" / "linegate.db"
        logs = folder / "logs"
        logs.mkdir(exist_ok=True)
        good = prepare_recipe(folder, options)
        config = write_config(folder, options, ports)
        last = last_sequence(self._database)
        self._first_sequence = 1 if last is None else (last + 1) % U32
        if options.trigger != "mqtt":
            fill_camera_folder(folder, options, first_sequence=self._first_sequence)
        self._broker = Child(
            "broker", ["simulators.broker", "--port", str(ports["mqtt"])], log=logs / "broker.log", take=self._take
        )
        self._bridge = Child(
            "bridge", ["bridge", "run", "--config", str(config)], log=logs / "bridge.log", environment=unsaid(config)
        )
        self._relay = Relay(host=HOST, port=ports["mqtt"]) if options.expects(NetworkDelay) else None
        self._conveyor = Child("conveyor", self._conveyor_arguments(good), log=logs / "conveyor.log", take=self._take)
        self._plc = Child("PLC", self._plc_arguments(), log=logs / "plc.log", take=self._take)
        self._plc_told = PlcRecord()
        self._faults = ProcessFaults(
            broker=self._broker,
            bridge=self._bridge,
            plc=self._plc,
            relay=self._relay,
            database=self._database,
            picture_bytes=max(picture.path.stat().st_size for picture in options.pictures),
            bridge_ready=self._bridge_ready,
            plc_triggers=options.trigger != "mqtt",
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Run the line from its first part to its last; `stop` ends the laying early. Raises ChildError."""
        await self._start_all()
        options, ended = self._options, asyncio.ensure_future(self._first_end())
        self._conveyor.tell("start")
        stopped = asyncio.ensure_future(_wait_for(stop, options.seconds))
        finished = asyncio.ensure_future(self._conveyor.seen("finished", within_s=1e9))
        try:
            await asyncio.wait({ended, stopped, finished}, return_when=asyncio.FIRST_COMPLETED)
            if not finished.done() and not ended.done():
                self._say(self.board.note("no more parts are laid; those on the belt go on to the gate"))
                self._conveyor.tell("stop")
                await asyncio.wait({ended, finished}, timeout=60.0, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise ended.result()
            await self._recovered()
            await self._quiet()
        finally:
            for waiting in (ended, stopped, finished):
                waiting.cancel()
            await asyncio.gather(ended, stopped, finished, return_exceptions=True)

    async def stop(self) -> list[str]:
        """Stop everything, whoever listens last; gives what did not end as it should."""
        problems = []
        await self._faults.stop()
        for child, within_s in ((self._plc, 6.0), (self._bridge, 12.0), (self._conveyor, 4.0)):
            if child.running and (code := await child.stop(within_s=within_s)) != 0:
                problems.append(f"{child.name} ended with code {code}")
            await child.stop(within_s=within_s)
        if self._observer is not None:
            self._observer.stop()
        if self._relay is not None:
            await self._relay.stop()
        await self._broker.stop()
        return problems

    def report(self, problems: Iterable[str]) -> dict[str, Any]:
        """Reconcile what the run left behind; raises TruthError, PlcRecordError or RecordsError."""
        evidence = Evidence(
            truth=read_truth(self._truth_file),
            plc=read_plc_record(self._plc_file).follows(self._plc_told),
            records=tuple(read_verdicts(self._database, since_utc_ns=self._began_utc_ns)),
            observed=self._observer.observed() if self._observer is not None else Observed(),
            gate_events=tuple(read_gate_events(self._database, since_utc_ns=self._began_utc_ns)),
            faults=self._faults.times,
            outages=self._faults.outages,
            speed_mm_s=self._options.speed_mm_s,
        )
        report = reconcile(evidence, ports=self._ports)
        report["problems"] = [*report["problems"], *problems]
        report["reconciled"] = not report["problems"]
        return report

    @property
    def _truth_file(self) -> Path:
        return self._folder / "conveyor.json"

    @property
    def _plc_file(self) -> Path:
        return self._folder / "plc.json"

    async def _start_all(self) -> None:
        for stale in (self._truth_file, self._plc_file):
            stale.unlink(missing_ok=True)
        await self._broker.start()
        await self._bridge.start()
        await self._broker.seen("ready", within_s=10)
        if self._relay is not None:
            await self._relay.start()
        await self._conveyor.start()
        await self._conveyor.seen("ready", within_s=15)
        await self._plc.start()
        self._observer = Observer(
            host=HOST,
            port=self._ports["mqtt"],
            base="linegate/line1/station1",
            on_heard={"verdict": self._hear, "alarm": self._alarm, "gate": self.board.gate_report},
        )
        try:
            await self._observer.start()
        except TimeoutError as exc:
            raise ChildError(f"the broker takes no client within 10 s; {self._broker.tail()}") from exc
        await self._bridge_ready()
        for event in ("linked", "opcua_up"):
            await self._plc.seen(event, within_s=LINKED_S)
        await asyncio.sleep(SETTLE_S)

    async def _bridge_ready(self) -> None:
        """Wait for /readyz; raises ChildError with the bridge's own reasons."""
        deadline_s = time.monotonic() + READY_S
        answer = "no answer"
        while time.monotonic() < deadline_s:
            if not self._bridge.running:
                raise self._bridge.failure()
            status, answer = await _get(self._ports["http"], "/readyz")
            if status == 200:
                return
            await asyncio.sleep(0.1)
        raise ChildError(f"the bridge was not ready within {READY_S:g} s: {answer}; {self._bridge.tail()}")

    async def _first_end(self) -> ChildError:
        """Return once any child has ended by itself."""
        children = (self._broker, self._bridge, self._conveyor, self._plc)
        waits = {asyncio.ensure_future(child.ended()): child for child in children}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in waits:
                waiting.cancel()
        return waits[done.pop()].failure()

    async def _recovered(self) -> None:
        """Wait for the end of all faults, and a while for a bridge that is ready again, its journal drained."""
        if not self._faults.times:
            return
        await self._faults.over()
        deadline_s = time.monotonic() + RECOVERED_S
        while time.monotonic() < deadline_s:
            if (await _get(self._ports["http"], "/readyz"))[0] == 200:
                return
            await asyncio.sleep(0.1)

    async def _quiet(self) -> None:
        """Wait until every part told has been seen on every output, or nothing has been for a while."""
        lacking, news_s = -1, time.monotonic()
        while time.monotonic() < news_s + QUIET_S:
            heard = self._observer.sequences if self._observer is not None else set()
            seen = (len(self.board.told - each) for each in (heard, self.board.by_modbus, self.board.by_opcua))
            before, lacking = lacking, sum(seen)
            if not lacking:
                break
            news_s = news_s if lacking == before else time.monotonic()
            await asyncio.sleep(0.05)
        # The last counters and reject confirmations are on their way for a poll or two more.
        await asyncio.sleep(SETTLE_S)

    def _take(self, child: str, event: dict[str, Any]) -> None:
        if event["event"] == "fault":
            self._faults.begin(event)
        elif child == self._plc.name:
            self._plc_told.note_told(event)
        if (line := self.board.take(child, event)) is not None:
            self._say(line)

    def _hear(self, verdict: Mapping[str, Any]) -> None:
        self._say(self.board.hear(verdict))

    def _alarm(self, alarm: Mapping[str, Any]) -> None:
        if (line := self.board.alarm(alarm)) is not None:
            self._say(line)

    def _conveyor_arguments(self, good: Iterable[str]) -> list[str]:
        options, ports = self._options, self._ports
        arguments = {
            "--port": ports["field"],
            "--mqtt-port": ports["mqtt"] if self._relay is None else self._relay.listens_on,
            "--watchdog-ms": WATCHDOG_MS,
            "--rest": "pass" if options.gate == "plc" else "reject",
            "--trigger": "mqtt" if options.trigger == "mqtt" else "none",
            "--images": options.images,
            "--parts": options.parts or 0,
            "--speed": options.speed_mm_s,
            "--spacing": options.spacing_mm,
            "--seed": SEED,
            "--first-sequence": self._first_sequence,
            "--truth": self._truth_file,
        }
        words = ["simulators.line.server", "--wait", *(str(word) for pair in arguments.items() for word in pair)]
        words += [word for label in sorted(good) for word in ("--good", label)]
        return words + (["--faults", str(options.faults)] if options.faults is not None else [])

    def _plc_arguments(self) -> list[str]:
        options, ports = self._options, self._ports
        arguments = {
            "--field-port": ports["field"],
            "--bridge-port": ports["modbus"],
            "--opcua": f"opc.tcp://{HOST}:{ports['opcua']}/linegate/",
            "--trigger": "none" if options.trigger == "mqtt" else options.trigger,
            "--log": self._plc_file,
        }
        words = ["simulators.plc.run", *(str(word) for pair in arguments.items() for word in pair)]
        return words if options.gate == "plc" else [*words, "--watch"]


async def _wait_for(stop: asyncio.Event, seconds: float | None) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


async def _get(port: int, path: str) -> tuple[int, str]:
    """Ask for a page on this machine; gives status and body, status 0 when there was no answer."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(f"GET {path} HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
            head, _, body = (await reader.read(65536)).decode(errors="replace").partition("\r\n\r\n")
            writer.close()
    except (OSError, TimeoutError) as exc:
        return 0, str(exc) or type(exc).__name__
    words = head.split()
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    try:
        return status, json.dumps(json.loads(body))
    except ValueError:
        return status, body.strip()[:200]
