"""The OPC UA server as node-opcua-client sees it: a client of another maker."""

from __future__ import annotations

import pytest

from bridge.outputs.opcua_server import OpcUaServer
from bridge.outputs.plc_panel import PlcPanel
from tests.foreign.node import need_node, run_node
from tests.outputs.samples import MS, READY, outcome

pytestmark = pytest.mark.timeout(300)  # its packages may have to be installed first


async def test_a_result_is_read_in_one_go() -> None:
    need_node()
    panel = PlcPanel(station="station1", post=lambda message: None)
    server = OpcUaServer(
        [panel], line="line1", endpoint="opc.tcp://127.0.0.1:0/linegate/", clock_ns=lambda: 5 * MS, anonymous=True
    )
    port = await server.start()
    try:
        panel.show(READY, now_ns=0)
        panel.publish(outcome(7))
        names = ("Result.Sequence", "Result.PartId", "Status.Ready")
        read = await run_node(
            "read_tags.js",
            f"opc.tcp://127.0.0.1:{port}/linegate/",
            *(f"ns=2;s=line1.station1.{name}" for name in names),
        )
    finally:
        await server.stop()
    assert [(each["status"], each["value"]) for each in read] == [("Good", 7), ("Good", "A-000007"), ("Good", True)]
