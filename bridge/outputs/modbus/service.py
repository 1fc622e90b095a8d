"""The Modbus side as a whole: one set of stations behind a plain port, a port with TLS and a serial line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bridge.errors import StartError
from bridge.outputs.modbus.requests import ModbusStations
from bridge.outputs.modbus.serial import ModbusSerial, SerialSettings
from bridge.outputs.modbus.server import ModbusServer, TlsPort
from bridge.outputs.plc.panel import PlcPanel


@dataclass(frozen=True, slots=True, kw_only=True)
class ModbusSettings:
    """The ways into the Modbus server, None for one that is not there, and whom it lets in."""

    host: str = "127.0.0.1"
    port: int | None = 5020
    tls: TlsPort | None = None
    serial: SerialSettings | None = None
    allow: tuple[str, ...] = ("127.0.0.1",)
    max_connections: int = 20
    mirror: bool = True


class ModbusService:
    """Serve the panels of all stations by every way that the settings name.

    `serial_trouble` hears why the serial line can't be used, an empty text when it can. Raises StartError for an allow-list
    that can't be used.
    """

    def __init__(
        self,
        panels: Sequence[PlcPanel],
        settings: ModbusSettings,
        *,
        clock_ns: Callable[[], int],
        serial_trouble: Callable[[str], None],
    ) -> None:
        stations = ModbusStations(panels, clock_ns=clock_ns, mirror=settings.mirror)
        try:
            self._server = ModbusServer(
                stations,
                host=settings.host,
                port=settings.port,
                tls=settings.tls,
                allow=settings.allow,
                max_connections=settings.max_connections,
            )
        except ValueError as exc:
            raise StartError(f"[modbus] allow: {exc}; allowed are addresses and networks such as 10.0.0.0/24") from exc
        line = settings.serial
        self._serial = ModbusSerial(stations, line, tell=serial_trouble) if line else None

    @property
    def port(self) -> int | None:
        """The plain port once it is open, None without one."""
        return self._server.port

    @property
    def tls_port(self) -> int | None:
        """The port with TLS once it is open, None without one."""
        return self._server.tls_port

    async def start(self) -> None:
        """Open the ports, each tried for 3 s, then StartError; the serial line is opened when its device is there."""
        await self._server.start()
        if self._serial is not None:
            self._serial.start()

    async def stop(self) -> None:
        """Close every way in."""
        if self._serial is not None:
            await self._serial.stop()
        await self._server.stop()
