"""`linegate gate test`: fire the gate once, with somebody watching, and tell what was measured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

from bridge.domain.belt import NS_PER_MS
from bridge.domain.gate import GateOrder
from bridge.domain.gate_settings import GateSettings
from bridge.domain.messages import GateNews
from bridge.errors import OutputError
from bridge.gate.coil import CoilAddress
from bridge.gate.link import GateProcess
from bridge.ports import Clock

KEY = (0, 0)
CONNECT_S = 5.0
AHEAD_MS = 500.0


async def fire_once(
    settings: GateSettings, output: CoilAddress, *, open_ms: float, clock: Clock, say: Callable[[str], None]
) -> None:
    """Open the gate for `open_ms` as an order of a part would; raises OutputError when it could not be."""
    heard: asyncio.Queue[GateNews] = asyncio.Queue()
    gate = GateProcess(settings, output, clock=clock, tell=heard.put_nowait)
    gate.start()
    try:
        up = await _next(heard, ("up", "down"), within_s=CONNECT_S, say=say)
        if up is None or up.event == "down":
            raise OutputError(up.text if up else f"{output.host}:{output.port} does not answer")
        due_ns = clock.now_ns() + round(AHEAD_MS * NS_PER_MS)
        off_ns = due_ns + round(open_ms * NS_PER_MS)
        say(f"connected to {output.host}:{output.port}; firing coil {output.coil} in {AHEAD_MS:.0f} ms")
        gate.ordered(KEY, GateOrder(state="ordered", due_ns=due_ns, off_ns=off_ns))
        fired = await _next(heard, ("fired", "missed", "down"), within_s=AHEAD_MS / 1e3 + 2.0, say=say)
        if fired is None or fired.event != "fired" or fired.error_ms is None:
            raise OutputError(f"the gate was not fired: {fired.text if fired else 'no word from the gate process'}")
        say(f"fired; the command left {fired.error_ms:.3f} ms after its moment")
        lost = await _next(heard, ("down",), within_s=open_ms / 1e3 + 0.5, say=say)
        if lost is not None:
            raise OutputError(f"the module was lost while the gate was on: {lost.text}")
        say(f"off after {open_ms:.0f} ms; the coil is left off")
    finally:
        await gate.stop()


async def _next(
    heard: asyncio.Queue[GateNews], events: Iterable[str], *, within_s: float, say: Callable[[str], None]
) -> GateNews | None:
    """Give the first of these events; tells on the way how the process is scheduled."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while (news := await heard.get()).event not in events:
                if news.event == "realtime":
                    say("the gate process runs with real-time priority")
                elif news.event == "ordinary":
                    say(f"WARNING: {news.text}; it may fire some milliseconds late")
            return news
    return None
