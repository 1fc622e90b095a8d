"""A remote I/O module with 16 coils on Modbus TCP, as a process of its own: `python -P -m benchmarks.sink --port N`."""

from __future__ import annotations

import argparse
import asyncio

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


async def serve(port: int) -> None:
    """Answer until ended."""
    bits = [SimData(0, count=16, values=False, datatype=DataType.BITS)]
    spare = [SimData(0, values=0, datatype=DataType.REGISTERS)]
    await ModbusTcpServer(
        SimDevice(id=0, simdata=(bits, bits, spare, spare)), address=("127.0.0.1", port)
    ).serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A Modbus module with coils.")
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(serve(parser.parse_args().port))
