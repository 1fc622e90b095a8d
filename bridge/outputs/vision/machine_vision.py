"""The companion model OPC 40100-1 (OPC UA for Machine Vision) beside the flat tree: one VisionSystem for each station.

It follows the panels outside of the verdicts' path: a watcher only notes that a view changed, one task does the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from uuid import uuid4

from asyncua import ua
from asyncua.common.node import Node
from asyncua.server.server import Server

from bridge.outputs.opcua.tree import Change
from bridge.outputs.plc.panel import PlcPanel
from bridge.outputs.plc.view import PlcView
from bridge.outputs.vision.events import VisionEvents
from bridge.outputs.vision.methods import RecipeList, VisionMethods
from bridge.outputs.vision.nodes import ModelIds, VisionNodes, model_ids
from bridge.outputs.vision.nodeset import import_nodeset
from bridge.outputs.vision.station import Happening, VisionStation
from bridge.outputs.vision.values import configuration_id, structure

_ACTIVE_CONFIGURATION = "ConfigurationManagement.ActiveConfiguration"
_News = Callable[[], Sequence[Happening]]
"""Has the station take a view, a capture or what a method did, in its turn, and gives what happened."""
_Entry = tuple["VisionSystem", _News, "asyncio.Future[None] | None"]


class VisionSystem:
    """One station's VisionSystem: joins its nodes, events and methods to what happens at the station."""

    def __init__(
        self, panel: PlcPanel, nodes: VisionNodes, events: VisionEvents, enter: Callable[[_Entry], None]
    ) -> None:
        self.station = VisionStation(new_id=_new_id)
        self.nodes = nodes
        self._panel = panel
        self._events = events
        self._enter = enter
        self._noted: object = None
        self._moved = asyncio.Event()

    async def build(self, server: Server, *, clock_ns: Callable[[], int], recipes: RecipeList) -> None:
        """Add the nodes, link the methods and begin to follow the panel."""
        await self.nodes.build()
        await self._events.build()
        methods = VisionMethods(self._panel, self.station, self, clock_ns=clock_ns, new_id=_new_id, recipes=recipes)
        for node, path in self.nodes.methods.items():
            server.link_method(server.get_node(node), methods.callback(path, await self.nodes.arguments_of(path)))
        running = structure("ConfigurationDataType", InternalId=configuration_id())
        self.nodes.write(_ACTIVE_CONFIGURATION, running, ua.VariantType.ExtensionObject)
        self.nodes.show(self.station.machine)
        await self.take(partial(self.station.see, self._panel.view))
        self._panel.watch(self._note)
        self._panel.watch_captures(self._captured)

    async def take(self, news: _News) -> None:
        """Show what happened: the states first, then the events in their order."""
        happened = news()
        self.nodes.show(self.station.machine)
        self._moved.set()
        for each in happened:
            await self._events.tell(each)

    async def apply(self, happened: Sequence[Happening]) -> None:
        """Show happenings behind what waits to be shown, and return once they are shown."""
        shown: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._enter((self, lambda: happened, shown))
        await shown

    async def comes(self, so: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until something is so at the station; False when it never was."""
        with suppress(TimeoutError):  # it never was so
            async with asyncio.timeout(timeout_s):
                while not so():
                    self._moved.clear()
                    await self._moved.wait()
        return so()

    def _note(self, view: PlcView) -> None:
        """Let the task look at a view in which something changed that the model shows."""
        status, counters = view.status, view.status.counters
        noted = (
            view.written, view.stale, status.state, status.enabled, status.ready, status.recipe_ok, status.recipe,
            status.model_sha256, status.error_text, counters.triggers, counters.in_flight, counters.duplicate_triggers,
        )  # fmt: skip
        if noted != self._noted:
            self._noted = noted
            self._enter((self, partial(self.station.see, view), None))

    def _captured(self, sequence: int, at_utc_ns: int) -> None:
        self._enter((self, partial(self.station.captured, sequence, at_utc_ns), None))


class MachineVision:
    """The VisionSystems of all stations, and the task that keeps them up to date."""

    def __init__(self, *, clock_ns: Callable[[], int], recipes: RecipeList) -> None:
        self._clock_ns = clock_ns
        self._recipes = recipes
        self._news: asyncio.Queue[_Entry] = asyncio.Queue()

    async def build(
        self,
        server: Server,
        stations: Sequence[tuple[PlcPanel, Node, str]],
        *,
        index: int,
        tell: Callable[[Change], None],
    ) -> None:
        """Import the nodeset and add a VisionSystem below each station's object; `index` is our own namespace.

        `tell` takes the changes of values that somebody has subscribed to.
        """
        space = await import_nodeset(server)
        ids: ModelIds = await model_ids(server, space)
        for panel, node, root in stations:
            await asyncio.sleep(0)
            nodes = VisionNodes(server, node, root=root, index=index, space=space, ids=ids, tell=tell)
            events = VisionEvents(server, nodes, space=space, ids=ids)
            system = VisionSystem(panel, nodes, events, self._news.put_nowait)
            await system.build(server, clock_ns=self._clock_ns, recipes=self._recipes)

    async def run(self) -> None:
        """Show what happens, for ever."""
        while True:
            system, news, shown = await self._news.get()
            await system.take(news)
            if shown is not None and not shown.done():
                shown.set_result(None)


def _new_id() -> str:
    return uuid4().hex
