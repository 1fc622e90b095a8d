"""Many parts at full speed: what the bridge holds must not grow with what it has done.

By hand, about 20 minutes: `LINEGATE_SOAK_PARTS=100000 pytest -m soak tests/soak/test_endurance.py -s --timeout=3600`.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from asyncua import Client as OpcUaClient

from tests.cli.processes import Bridge, Ports, running
from tests.soak.flow import Flow, at_rest
from tests.soak.observers import Registers, Tags
from tests.soak.rig import MOSQUITTO, count, descendants, pictures, tell, write_line
from tests.wire.conftest import MosquittoBroker

PARTS = count("LINEGATE_SOAK_PARTS", 3000)
GROWTH_LIMIT_KB = 10 * 1024
STEPS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a bridge and its children hold at rest."""

    rss_kb: int
    files: int
    threads: int
    tasks: int


def held(bridge: Bridge) -> Held:
    pids = [bridge.process.pid, *(pid for pid, _ in descendants(bridge.process.pid))]
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    # a scrape is a request of its own: its socket and its thread are gone before the rest is counted
    tasks = [line for line in bridge.get("/metrics")[1].splitlines() if line.startswith("linegate_tasks{")]
    assert len(tasks) == 2
    return Held(
        rss_kb=sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")),
        files=sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids),
        threads=sum(int(line.split()[1]) for line in lines if line.startswith("Threads:")),
        tasks=sum(round(float(line.split()[1])) for line in tasks),
    )


async def come_and_go(endpoint: str, times: int = 3) -> None:
    """Connect, subscribe and leave, as a SCADA system does that is restarted."""

    class Silent:
        def datachange_notification(self, *_: object) -> None:
            pass

    for _ in range(times):
        async with OpcUaClient(endpoint, timeout=5) as client:
            index = await client.get_namespace_index("urn:linegate")
            subscription = await client.create_subscription(50, Silent())
            await subscription.subscribe_data_change(client.get_node(f"ns={index};s=line1.station1.Result.Sequence"))
            await asyncio.sleep(0.1)


@pytest.mark.soak
@pytest.mark.timeout(120 + PARTS // 20)
def test_what_the_bridge_holds_stays_level(tmp_path: Path) -> None:
    write_line(tmp_path)
    (tmp_path / "mosquitto").mkdir()
    ports = Ports.free()
    broker = MosquittoBroker(tmp_path / "mosquitto", extra=MOSQUITTO)
    ports.mqtt = broker.port
    settings = {"belt__speed_mm_s": "3000"}
    with contextlib.ExitStack() as stack:
        stack.callback(broker.kill)
        broker.start()
        bridge = stack.enter_context(running(Bridge(folder=tmp_path, ports=ports, settings=settings)))
        bridge.wait_ready()
        for watcher in (Registers(ports.modbus, lambda: 0), Tags(port=ports.opcua, run=lambda: 0)):
            watcher.start()
            stack.callback(watcher.stop)
        flow = stack.enter_context(Flow(ports.mqtt, pictures()))
        samples, rates = [], []
        for _ in range(STEPS):
            rates.append(flow.full_speed(PARTS // STEPS))
            asyncio.run(come_and_go(f"opc.tcp://127.0.0.1:{ports.opcua}/linegate/"))
            at_rest(flow, lambda: bridge.metrics()["linegate_parts_in_flight"])
            samples.append(held(bridge))
        metrics = bridge.metrics()
        tell(tmp_path, parts=PARTS, rates=[round(rate) for rate in rates], held=[asdict(each) for each in samples])
    warm, last = samples[STEPS // 5 - 1], samples[-1]
    assert metrics["linegate_triggers_total"] == len(flow.parts)
    assert flow.repeated == 0
    assert last.rss_kb - warm.rss_kb <= GROWTH_LIMIT_KB
    for what in ("files", "threads", "tasks"):
        # one more or less is a file or a task that comes and goes; a leak is one for each client or part
        assert getattr(last, what) - getattr(warm, what) <= 2, what
