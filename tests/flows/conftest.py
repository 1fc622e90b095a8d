"""The packages come before the first test, whose time limit they would use up."""

import shutil

import pytest

from tests.flows.node_red import need_node_red


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install the packages of flows/package.json when a test that needs them was chosen, and there is Node to run them."""
    chosen = any(item.get_closest_marker("flows") for item in session.items)
    if chosen and not session.config.option.collectonly and shutil.which("node") and shutil.which("npm"):
        need_node_red()
