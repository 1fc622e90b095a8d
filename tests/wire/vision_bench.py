"""A panel with a station behind it, and a client of OPC 40100-1 with its eye on that station's VisionSystem."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from asyncua import Client, Node, ua

from bridge.domain.messages import Command, Inbound, Reply
from bridge.domain.status import Counters, StationState, StationStatus
from bridge.domain.verdict import VerdictCode
from bridge.outputs.plc.panel import PlcPanel
from bridge.ports import Outcome
from tests.outputs.samples import DECIDED_UTC_NS, MS, result, status

MODEL = "http://opcfoundation.org/UA/MachineVision"
RUNNING = status(counters=Counters(triggers=10, passed=10), last_sequence=10, recipe_ok=True)
RECIPES = ("bracket-a@3", "bracket-b@1")


@dataclass
class Line:
    """A panel with a station behind it that does what it is told, and says so to the panel as a real one does."""

    panel: PlcPanel = field(init=False)
    url: str = ""
    status: StationStatus = RUNNING
    plc_enabled: bool = True
    posted: list[Inbound] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.panel = PlcPanel(station="station1", post=self.post)

    def show(self, **changes: Any) -> None:
        self.status = replace(self.status, **changes)
        self.panel.show(self.status, now_ns=0)

    def post(self, message: Inbound) -> None:
        self.posted.append(message)
        if isinstance(message, Command) and message.respond:
            ok = getattr(self, "_" + message.name.replace("-", "_"))(message)
            message.respond(Reply(ok=ok is not False, text=""))

    def _disable(self, _message: Command) -> None:
        asyncio.get_running_loop().call_soon(lambda: self.show(enabled=False, state=StationState.DISABLED, ready=False))

    def _enable(self, _message: Command) -> None:
        if self.plc_enabled:
            asyncio.get_running_loop().call_soon(lambda: self.show(enabled=True, state=StationState.READY, ready=True))

    def _clear_error(self, _message: Command) -> None:
        self.show(recipe_ok=True, ready=self.status.enabled)

    def _select_recipe(self, message: Command) -> bool:
        if message.recipe == "bracket-b":
            self.show(ready=False)
            self.show(ready=True, recipe="bracket-b@1", model="other@1.0.0", model_sha256="cd" * 32)
        return message.recipe != "broken"

    def accept(self, sequence: int) -> None:
        counters = replace(self.status.counters, triggers=self.status.counters.triggers + 1)
        self.show(last_sequence=sequence, counters=counters)

    def capture(self, sequence: int) -> None:
        self.panel.captured(sequence, DECIDED_UTC_NS - 5 * MS)

    def decide(self, sequence: int, *, code: VerdictCode = VerdictCode.FAIL, document: str | None = None) -> None:
        judged = result(sequence, code=code)
        text = document or json.dumps({"sequence": sequence, "part_id": judged.part.part_id, "verdict": code.name})
        self.panel.publish(Outcome(result=judged, document=text))
        counters = replace(self.status.counters, failed=self.status.counters.failed + 1)
        self.show(counters=counters)


@dataclass
class Heard:
    """The events that a client was told, by the last part of their type's name."""

    model: dict[ua.NodeId, str]
    events: list[tuple[str, Any]] = field(default_factory=list)

    def event_notification(self, event: Any) -> None:
        self.events.append((self.model.get(event.EventType, "other"), event))

    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    def of(self, name: str) -> list[Any]:
        return [event for kind, event in self.events if kind == name]


class Eye:
    """A client with the specification's types loaded, its eye on one VisionSystem."""

    def __init__(self, client: Client, space: int) -> None:
        self.ua, self.space = client, space

    def node(self, path: str = "") -> Node:
        return self.ua.get_node("ns=2;s=line1.station1.VisionSystem" + (f".{path}" if path else ""))

    async def states(self) -> tuple[str, str | None]:
        texts = []
        for machine in ("VisionStateMachine", "VisionStateMachine.AutomaticModeStateMachine"):
            shown = await self.node(f"{machine}.CurrentState").read_data_value(raise_on_bad_status=False)
            bad = shown.StatusCode.value == ua.StatusCodes.BadStateNotActive
            texts.append(None if bad else shown.Value.Value.Text)
        return texts[0] or "", texts[1]

    async def become(self, *wanted: str | None) -> None:
        async with asyncio.timeout(5):
            while await self.states() != wanted:
                await asyncio.sleep(0.01)

    async def call(self, path: str, *arguments: ua.Variant) -> Any:
        owner, _, _ = path.rpartition(".")
        return await self.node(owner).call_method(self.node(path).nodeid, *arguments)

    async def command(self, name: str) -> int:
        cause = (ua.Variant(0, ua.VariantType.Int32), ua.Variant("by hand", ua.VariantType.String))
        return int(await self.call(f"VisionStateMachine.{name}", *cause))

    async def start(
        self, name: str, *, part: str = "", recipe: str = "", parameters: Any = None, meas: str = "M-1"
    ) -> tuple[str, int]:
        job, error = await self.call(
            f"VisionStateMachine.AutomaticModeStateMachine.{name}",
            structure(ua.MeasIdDataType(Id=meas)),
            structure(ua.PartIdDataType(Id=part)),
            structure(ua.RecipeIdExternalDataType(Id=recipe)),
            structure(None),
            ua.Variant(parameters or [], ua.VariantType.Variant, is_array=True),
        )
        return job.Id, error

    async def stop(self, name: str = "Stop") -> int:
        return await self.command(f"AutomaticModeStateMachine.{name}")


def structure(value: Any) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.ExtensionObject)


def uint32(value: int) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.UInt32)


def int32(value: int) -> ua.Variant:
    return ua.Variant(value, ua.VariantType.Int32)


async def until(so: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not so():
            await asyncio.sleep(0.01)
