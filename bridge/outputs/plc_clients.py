"""The PLCs that the bridge is a client of: for each station those that its configuration names."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from bridge.outputs.modbus.client import ModbusClientSettings
from bridge.outputs.opcua.client import OpcUaClientSettings
from bridge.outputs.plc.client import PlcClient
from bridge.outputs.plc.fresh_orders import FreshOrders
from bridge.outputs.plc.panel import PlcPanel

PlcClientSettings = ModbusClientSettings | OpcUaClientSettings


class PlcClients:
    """All clients of one station, which begin and end with the servers; `output_ms` as the gate's timing has it."""

    def __init__(
        self,
        panel: PlcPanel,
        settings: Sequence[PlcClientSettings],
        *,
        output_ms: float,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._clients = [_client(each, panel, output_ms, clock_ns) for each in settings]

    def start(self) -> None:
        """Begin to connect, each for itself."""
        for each in self._clients:
            each.start()

    async def stop(self) -> None:
        """Write a last time and let go, all at once."""
        await asyncio.gather(*(each.stop() for each in self._clients))

    @property
    def reconnects(self) -> dict[str, int]:
        """How often each link was made anew; any thread may ask."""
        return {each.name: max(0, each.connections - 1) for each in self._clients}


def _client(settings: PlcClientSettings, panel: PlcPanel, output_ms: float, clock_ns: Callable[[], int]) -> PlcClient:
    orders = FreshOrders(output_ms=output_ms, places=settings.places)
    return PlcClient(
        panel,
        name=settings.name,
        where=settings.where,
        connect=lambda: settings.connection(panel, orders, clock_ns=clock_ns),
        orders=orders,
        clock_ns=clock_ns,
        read_s=settings.read_s if settings.reads else 0.0,
        write_s=settings.write_s,
        drives_gate=settings.drives_gate,
    )
