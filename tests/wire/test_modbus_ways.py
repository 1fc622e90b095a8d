"""A whole bridge whose PLCs come by TLS and by a serial line: what it judged is read by both, and a lost line is told."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

from pymodbus.client import AsyncModbusTlsClient

from tests.cli.processes import linegate
from tests.ports import free_ports
from tests.wire.certificates import Authority
from tests.wire.judging_bench import Bench, judging_bridge
from tests.wire.modbus_bench import read
from tests.wire.serial_line import SerialLine

ALARM = ("MODBUS_SERIAL_LOST", 46)


def settings_for(authority: Authority, line: SerialLine, port: int) -> dict[str, str]:
    return {
        "modbus__plain": "false",
        "modbus__serial__device": str(line.device),
        "modbus__serial__parity": "none",
        "modbus__tls__enabled": "true",
        "modbus__tls__port": str(port),
        "modbus__tls__cert": str(authority.cert("bridge")),
        "modbus__tls__key": str(authority.key("bridge")),
        "modbus__tls__client_ca": str(authority.ca),
    }


def reasons(bench: Bench) -> list[str]:
    found: list[str] = json.loads(bench.bridge.get("/readyz")[1])["reasons"]
    return found


async def eventually(what: Any, *arguments: Any) -> None:
    for _ in range(400):
        if await asyncio.to_thread(what, *arguments):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not happen")


async def test_plcs_on_a_serial_line_and_behind_tls_see_what_was_judged(tmp_path: Path) -> None:
    (site := tmp_path / "site").mkdir()
    authority, line = Authority(site, "plant"), SerialLine(site)
    authority.issue("bridge", address="127.0.0.1")
    authority.issue("plc")
    (port,) = free_ports(1)
    running = judging_bridge(tmp_path, **settings_for(authority, line, port))
    bench = await asyncio.to_thread(running.__enter__)
    try:
        await asyncio.to_thread(bench.judges_on)
        context = ssl.create_default_context(cafile=authority.ca)
        context.load_cert_chain(authority.cert("plc"), authority.key("plc"))
        plc = AsyncModbusTlsClient("127.0.0.1", port=port, sslctx=context)
        assert await plc.connect()
        assert (await plc.read_input_registers(36, count=4, device_id=1)).registers == [0, 2, 0, 2]
        plc.close()
        assert await line.ask(1, read(4, 36, 4)) == b"\x04\x08\0\0\0\x02\0\0\0\x02"
        assert bench.bridge.told("started")
        started = next(each for each in bench.bridge.log if " started " in each)
        assert f"127.0.0.1:{port} with TLS, {line.device} at 19200 baud, 8N1" in started

        line.unplug()
        await eventually(lambda: reasons(bench) == ["station1: the Modbus serial line is lost"])
        await asyncio.to_thread(bench.judges_on)
        line.plug()
        await eventually(lambda: reasons(bench) == [])
        assert await line.ask(1, read(4, 38, 2)) == b"\x04\x04\0\0\0\x04"
        told = [(each["name"], each["code"], each["state"]) for each in bench.publisher.heard("alarm")]
        assert [each for each in told if each[:2] == ALARM] == [(*ALARM, "raised"), (*ALARM, "cleared")]
        assert (bench.bridge.told("modbus_serial_lost"), bench.bridge.told("modbus_serial_open")) == (1, 2)
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)
        line.close()


def test_a_tls_file_that_cannot_be_used_is_one_line_at_check_and_at_start(tmp_path: Path) -> None:
    linegate(tmp_path, "init", ".")
    settings = {"modbus__tls__enabled": "true", "modbus__tls__cert": "none.pem", "modbus__tls__key": "none.key"}
    for command in ("check-config", "run"):
        done = linegate(tmp_path, command, **settings)
        lines = done.stderr.splitlines()
        assert (done.returncode, len(lines)) == (2, 1), done.stderr
        assert f"modbus.tls.cert = '{tmp_path}/none.pem': no such file" in lines[0]
