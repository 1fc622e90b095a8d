"""A quality engineer's desk: a folder to work in with a home of its own, and `linegate model` typed in it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
"""So that a command is the one of this checkout, wherever the package was installed from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The folder; every command runs in it."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a command sees: nothing of the user who runs the tests."""
        return {
            "PATH": "/usr/bin:/bin", "HOME": str(self.folder), "XDG_CACHE_HOME": str(self.folder / "cache"),
            "XDG_CONFIG_HOME": str(self.folder / "config"), "COLUMNS": "160", "PYTHONPATH": str(ROOT),
        }  # fmt: skip

    def linegate(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command = [sys.executable, "-P", "-m", "bridge", *map(str, arguments)]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=200, check=False
        )

    def model(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run `linegate model`."""
        return self.linegate("model", *arguments)

    def json(self, *arguments: object) -> dict[str, Any]:
        """Run `linegate model` with `--json` and give what it wrote."""
        file = self.folder / "figures.json"
        done = self.model(*arguments, "--json", file)
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(file.read_text())
        return told

    def refusal(self, *arguments: object) -> str:
        """Run `linegate model`, which must refuse in one line; gives the line."""
        done = self.model(*arguments)
        assert done.returncode != 0, done.stdout
        assert done.stderr.startswith("linegate: ")
        assert done.stderr.count("\n") == 1, "one line, no traceback"
        return done.stderr
