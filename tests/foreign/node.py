"""Programs in Node that drive clients of other makers: their packages, and how one is run."""

from __future__ import annotations

import asyncio
import fcntl
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
INSTALL_S = 240


def need_node() -> str:
    """Give the path of node, the packages of `package.json` installed beside it; skips the test where there is no Node."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("Node.js is not installed")
    stamp, lock = HERE / "node_modules" / ".package-lock.json", HERE / "package-lock.json"
    with (HERE / ".install.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.stat().st_mtime < lock.stat().st_mtime:
            subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=HERE, check=True, timeout=INSTALL_S)
            stamp.touch()
    return node


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
