"""The page on security says what listens; a bridge that runs listens there and nowhere else."""

from __future__ import annotations

import contextlib
import re
import socket
from pathlib import Path

import pytest

from bridge.config import Config
from tests.cli.processes import ROOT, Bridge, Ports, eventually, linegate

PAGE = ROOT / "docs" / "security.md"
LISTEN = "0A"


def rows() -> dict[tuple[str, str], str]:
    """Give the page's defaults by section and key."""
    text = PAGE.read_text(encoding="utf-8")
    return {(section, key): value for section, key, value in re.findall(r"`\[(\w+)\] (\w+)` \| `([^`]+)` \|", text)}


def test_the_defaults_of_what_listens_are_those_of_the_code() -> None:
    config, listed = Config(), rows()
    wanted = [("modbus", "host"), ("modbus", "port"), ("opcua", "endpoint"), ("http", "host"), ("http", "port")]
    assert {where: listed[where] for where in wanted} == {
        (section, key): str(getattr(getattr(config, section), key)) for section, key in wanted
    }


def test_every_linked_page_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", PAGE.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (PAGE.parent / link).exists()] == []


def family(pid: int) -> set[int]:
    """Give a process and everything that it has started; one that ends meanwhile is left out."""
    found = {pid}
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found |= family(int(child))
    return found


def sockets(pid: int) -> set[str]:
    """Give the inodes of a process's sockets; files that are closed meanwhile are left out."""
    found = set()
    with contextlib.suppress(OSError):
        for descriptor in list(Path(f"/proc/{pid}/fd").iterdir()):
            with contextlib.suppress(OSError):
                found.update(re.findall(r"^socket:\[(\d+)\]$", str(descriptor.readlink())))
    return found


def listening(pids: set[int]) -> set[tuple[str, int]]:
    """Give the TCP addresses on which processes listen, those of IPv6 as the kernel writes them."""
    inodes = {inode for pid in pids for inode in sockets(pid)}
    found = set()
    kernel = [Path(f"/proc/net/{name}") for name in ("tcp", "tcp6")]
    for line in [line for table in kernel if table.exists() for line in table.read_text().splitlines()[1:]]:
        (
            _,
            local,
            _,
            state,
            *_,
        ) = line.split()[:4]
        if state == LISTEN and line.split()[9] in inodes:
            address, port = local.split(":")
            plain = socket.inet_ntoa(bytes.fromhex(address)[::-1]) if len(address) == 8 else address
            found.add((plain, int(port, 16)))
    return found


@pytest.mark.timeout(60)
def test_a_bridge_listens_on_the_loopback_on_the_ports_of_the_page_alone(tmp_path: Path) -> None:
    assert linegate(tmp_path, "init").returncode == 0
    ports = Ports.free()
    bridge = Bridge(folder=tmp_path, ports=ports)
    bridge.start()
    try:
        wanted = {("127.0.0.1", port) for port in (ports.modbus, ports.opcua, ports.http)}
        eventually(lambda: wanted <= listening(family(bridge.process.pid)))
        assert listening(family(bridge.process.pid)) == wanted
    finally:
        bridge.process.terminate()
        bridge.process.wait(timeout=15)
