"""Real processes that share two cores with whatever else the machine does: such a test may be disturbed once, not twice.

The tests of these folders, long runs and measures of moments are repeated once when they fail, and the run shows the first
failure and names the test; those that need no clock and no socket of their own are not.
"""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
IN_REAL_TIME = frozenset(
    {"cli", "compose", "flows", "foreign", "inference", "line", "packaging", "records", "simulators", "soak", "wire"}
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs in real time."""
    for item in items:
        inside = item.path.is_relative_to(HERE) and item.path.relative_to(HERE).parts[0] in IN_REAL_TIME
        if inside or any(item.get_closest_marker(name) for name in ("realtime", "soak")):
            # A shared machine that stands still makes parts late in truth. A long run meets that more often.
            reruns = 2 if item.get_closest_marker("soak") else 1
            item.add_marker(pytest.mark.flaky(reruns=reruns, reruns_delay=1))
