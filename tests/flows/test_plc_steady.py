"""Many results at a steady pace through both PLC flows at once: none lost, none twice, and Node-RED's memory level.

20 results a second for 15 s; FLOWS_COUNT=10000 for all that a shift brings.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.processes import ROOT, environment, eventually
from tests.flows.node_red import NodeRed, node_red, read_flow
from tests.ports import free_ports

COUNT = int(os.environ.get("FLOWS_COUNT", "300"))
PER_S = 20
FIRST = 2**32 - 100
"""The sequence rolls over on the way."""
MOST_GROWTH = 60e6

pytestmark = [pytest.mark.flows, pytest.mark.timeout(120 + 2 * COUNT // PER_S)]


def identity(flow: str, name: str) -> str:
    """Give the id of a node: both flows have nodes of one name."""
    return str(next(node["id"] for node in read_flow(flow) if node.get("name") == name))


@contextlib.contextmanager
def servers(modbus: int, opcua: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.flows.steady_results", str(modbus), str(opcua)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            yield process
        finally:
            process.kill()


def publish(process: subprocess.Popen[str], *, count: int, per_s: float, first: int) -> None:
    """Have results published, and wait for their end."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{count} {per_s} {first}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"


def shown(red: NodeRed, flow: str, name: str = "new results") -> list[int]:
    return [each["sequence"] for each in red.debug(identity(flow, name))]


def lost(red: NodeRed, flow: str) -> int:
    """Give how many results the flow says it never saw."""
    return sum(each["lost"] for each in red.debug(identity(flow, "lost results")))


def test_none_is_lost_and_none_is_told_twice(tmp_path: Path) -> None:
    modbus, opcua = free_ports(2)
    settings = {
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "LINEGATE_MODBUS_PORT": str(modbus),
        "LINEGATE_OPCUA": f"opc.tcp://127.0.0.1:{opcua}/linegate/",
    }
    flows = ["plc-modbus.json", "plc-opcua.json"]
    with servers(modbus, opcua) as process, node_red(tmp_path, flows=flows, environment=settings) as red:
        eventually(lambda: red.statuses().get("watch the sessions", {}).get("fill") == "green", 40)
        eventually(lambda: red.statuses().get("read the ring", {}).get("fill") == "green", 40)
        publish(process, count=40, per_s=PER_S, first=FIRST - 40)
        for flow in flows:
            eventually(lambda flow=flow: len(shown(red, flow)) == 40)
        before = red.memory()
        publish(process, count=COUNT, per_s=PER_S, first=FIRST)
        expected = [(FIRST - 40 + number) % 2**32 for number in range(40 + COUNT)]
        for flow in flows:
            eventually(lambda flow=flow: len(shown(red, flow)) + lost(red, flow) >= len(expected))
            missing = sorted(set(expected) - set(shown(red, flow)))
            assert (flow, len(missing), missing[:5], lost(red, flow)) == (flow, 0, [], 0)
            assert sorted(shown(red, flow)) == sorted(expected)
        assert shown(red, "plc-modbus.json") == expected
        assert red.memory() - before < MOST_GROWTH
