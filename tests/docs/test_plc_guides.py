"""What the pages for PLC programmers tell to type is typed, and what they say comes of it must come of it."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.outputs.plc.tag_list import rows
from tests.cli.processes import ROOT, Ports
from tests.docs.console import Shell, differences, steps_of

FOLDER = ROOT / "docs" / "plc"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.name not in ("README.md", "tags.md"))
TOOLS = ("mbpoll", "mosquitto_pub", "curl")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    folder, ports = tmp_path_factory.mktemp("project"), Ports.free()
    (folder / "simulators").symlink_to(ROOT / "simulators")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    settings = {f"LINEGATE_{name.upper()}": value for name, value in ports.settings.items()}
    replaced = {
        "simulate broker": f"simulate broker --port {ports.mqtt}", "mosquitto_pub ": f"mosquitto_pub -p {ports.mqtt} ",
        "-p 5020": f"-p {ports.modbus}", ":4840": f":{ports.opcua}", ":9464": f":{ports.http}",
    }  # fmt: skip
    opened = Shell(folder, environment={**settings, "PYTHONPATH": str(ROOT)}, replaced=replaced)
    yield opened
    opened.close()


@pytest.mark.soak
@pytest.mark.timeout(180)
def test_what_the_pages_tell_to_type_comes_out_as_they_say(shell: Shell) -> None:
    assert differences(FOLDER / "README.md", shell) == []
    for page in PAGES:
        assert list(steps_of(page)), f"{page.name} has nothing to try"
        assert differences(page, shell) == []


def test_every_node_and_address_that_a_page_names_exists() -> None:
    listed = list(rows())
    nodes = {str(row["node"]) for row in listed}
    classic = {str(row["classic"]) for row in listed} | {str(row["mirror"]) for row in listed}
    names = {str(row["name"]).split(".")[-1] for row in listed}
    for page in [FOLDER / "README.md", *PAGES]:
        text = page.read_text(encoding="utf-8")
        for node in re.findall(r"ns=2;s=[\w.]+\w", text):
            assert node in nodes, (page.name, node)
        for name, address in re.findall(r"^\| `?(\w+)`? \| \d+ \| (\d{5}) \|", text, flags=re.MULTILINE):
            assert name in names, (page.name, name)
            assert address in classic, (page.name, address)


def test_every_link_of_a_page_leads_somewhere() -> None:
    for page in FOLDER.glob("*.md"):
        links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        assert [link for link in links if not (page.parent / link).exists()] == [], page.name
