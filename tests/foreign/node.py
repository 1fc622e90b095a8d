"""Programs in Node that drive clients of other makers: their packages, and how one is run."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
INSTALL_S = 240


def need_node() -> str:
    """Give the path of node, the packages of `package.json` installed beside it; skips the test where there is no Node."""
    return installed(HERE)


def installed(folder: Path) -> str:
    """Give the path of node, once the packages of `folder/package.json` are there; skips the test where there is no Node."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node.js is not installed")
    if (folder / "node_modules").is_symlink():  # somebody else's packages: not ours to renew
        return node
    stamp, lock = folder / "node_modules" / ".package-lock.json", folder / "package-lock.json"
    with (folder / ".install.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.stat().st_mtime < lock.stat().st_mtime:
            subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=folder, check=True, timeout=INSTALL_S)
            stamp.touch()
    return node


@contextlib.asynccontextmanager
async def node_program(script: str, *arguments: str) -> AsyncIterator[NodeProgram]:
    """Run a script of this folder until the end of the block, where its standard input ends; it must then end with 0."""
    process = await asyncio.create_subprocess_exec(
        need_node(), str(HERE / script), *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=2**22,
    )  # fmt: skip
    program = NodeProgram(process)
    try:
        yield program
        async with asyncio.timeout(30):
            rest, complained = await process.communicate(b"")  # which ends its standard input
        assert process.returncode == 0, (rest + complained).decode(errors="replace")[-3000:]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@dataclass(frozen=True)
class NodeProgram:
    """A script that runs beside the test: it writes JSON objects, one a line, and reads lines."""

    process: asyncio.subprocess.Process

    async def next(self, limit_s: float = 30.0) -> dict[str, Any]:
        """Give the next object that it writes; fails when it ended."""
        assert self.process.stdout is not None
        async with asyncio.timeout(limit_s):
            while not (line := await self.process.stdout.readline()).startswith(b"{"):
                if not line:
                    assert self.process.stderr is not None
                    raise AssertionError((await self.process.stderr.read()).decode(errors="replace")[-3000:])
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def ask(self, **command: Any) -> dict[str, Any]:
        """Give it a command as JSON, and wait for its answer."""
        self.tell(json.dumps(command))
        return await self.next()

    def tell(self, line: str) -> None:
        """Give it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")


async def run_node(script: str, *arguments: str, limit_s: float = 25.0) -> list[dict[str, Any]]:
    """Run a script of this folder to its end; gives the JSON objects that it wrote, one a line. Fails on exit code != 0."""
    process = await asyncio.create_subprocess_exec(
        need_node(), str(HERE / script), *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(limit_s):
            said, complained = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, (said + complained).decode(errors="replace")[-3000:]
    return [json.loads(line) for line in said.splitlines() if line.startswith(b"{")]
