"""docs/modbus.md can't lie: its addresses, its configuration and its commands for certificates are tried."""

from __future__ import annotations

import asyncio
import re
import ssl
import subprocess
import textwrap
import tomllib
from pathlib import Path

import pytest

from bridge.config_plc import Modbus
from bridge.outputs.modbus.rtu import frame_gap_s
from bridge.outputs.modbus.server import TlsPort
from bridge.outputs.modbus.tls import TlsFiles, server_context
from bridge.outputs.plc.control_block import COIL_BASE, CONTROL_BITS
from bridge.outputs.plc.tag_list import render_tags
from tests.docs.write_tables import ROOT
from tests.wire.mbpoll import needs_mbpoll, over_tcp
from tests.wire.modbus_bench import Bench, RawClient

PAGE = (ROOT / "docs" / "modbus.md").read_text(encoding="utf-8")
DIGIT = {"input register": "3", "holding register": "4", "coil": "0", "discrete input": "1"}


def blocks(beginning: str) -> list[str]:
    """Give the indented blocks that begin with some text."""
    found = re.findall(r"(?:^    .*\n|^\n(?=    ))+", PAGE, re.MULTILINE)
    return [text for each in found if (text := textwrap.dedent(each).strip()).startswith(beginning)]


def examples() -> list[list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if "`-0 -t" in line]
    return [row for row in rows if len(row) == 6]


@needs_mbpoll
async def test_the_examples_of_addresses_are_those_of_the_map() -> None:
    bench = await Bench().start()
    assert len(examples()) == 6
    for what, wire, counted, five, six, arguments in examples():
        address, digit = int(wire), next(digit for name, digit in DIGIT.items() if name in what)
        assert re.search(rf"\b{wire}\b", what) or "heartbeat" in what
        assert (int(counted), five, six) == (address + 1, f"{digit}{address + 1:04d}", f"{digit}{address + 1:05d}")
        told = await over_tcp(bench.port, *arguments.strip("`").split())
        assert list(told.values) == [address], told.text
    await bench.stop()
    entries = (
        "| 4 | 5 | 30005 | 41005 | Verdict | u16 | UINT | read |",
        "| 38-39 | 39 | 30039 | 41039 | ResultsWritten |",
        "| 1 | 2 | 30002 | 41002 | Heartbeat | u16 | UINT | read |",
        "| 1 | 2 | 40002 | Heartbeat | u16 | UINT | read, write |",
        "| 17 | 18 | 10018 | Reject |",
    )
    tags = render_tags("md")
    assert [each for each in entries if each not in tags] == []
    assert (COIL_BASE + 1, CONTROL_BITS[1].key) == (101, "trigger")


def test_every_key_of_the_page_is_a_key_with_an_allowed_value() -> None:
    shown = [tomllib.loads(text)["modbus"] for text in blocks("[modbus")]
    assert len(shown) == 3
    for table in shown:
        Modbus(**table)
    keys = {key for table in shown for key in table} | {
        key for table in shown for part in ("tls", "serial") for key in table.get(part, {})
    }
    assert keys >= {
        "plain",
        "allow",
        "cert",
        "key",
        "client_ca",
        "device",
        "baud_rate",
        "parity",
        "stop_bits",
        "local_echo",
    }


@pytest.mark.parametrize(("baud_rate", "registers", "ms"), [(19_200, 55, 74), (115_200, 55, 15), (19_200, 14, 28)])
def test_what_a_read_takes_on_the_line(baud_rate: int, registers: int, ms: int) -> None:
    characters = 8 + 5 + 2 * registers
    took_ms = (characters * 11 / baud_rate + 2 * frame_gap_s(baud_rate=baud_rate, bits=11)) * 1e3
    assert round(took_ms) == ms
    assert f"{ms} ms" in PAGE


async def test_the_commands_make_certificates_that_work(tmp_path: Path) -> None:
    (commands,) = blocks("openssl")
    script = commands.replace("IP:192.168.0.5", "IP:127.0.0.1")
    assert script != commands
    subprocess.run(["bash", "-e"], input=script, text=True, cwd=tmp_path, check=True, stderr=subprocess.DEVNULL)
    files = TlsFiles(cert=tmp_path / "bridge.pem", key=tmp_path / "bridge.key", client_ca=tmp_path / "ca.pem")
    bench = await Bench().start(tls=TlsPort(port=0, context=server_context(files)))
    context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    context.load_cert_chain(tmp_path / "plc.pem", tmp_path / "plc.key")
    client = RawClient(*await asyncio.open_connection("127.0.0.1", bench.tls_port, ssl=context))
    assert await client.registers(4, 1, 1) == [0]
    client.close()
    await bench.stop()
