"""The demo's command line: every mistake names the option, its value and what is allowed."""

from __future__ import annotations

import socket
import tomllib
from pathlib import Path

import pytest

from simulators.demo.options import OptionsError, read_options
from simulators.demo.setup import claimed_ports, write_config


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for label in ("good", "pitting"):
        (tmp_path / "images" / label).mkdir(parents=True)
        (tmp_path / "images" / label / "one.jpg").write_bytes(b"picture")
    return tmp_path / "images"


def test_the_defaults_are_the_contract_s(images: Path) -> None:
    options = read_options(["--images", str(images)])

    assert (options.parts, options.seconds, options.speed_mm_s, options.spacing_mm) == (200, None, 1200.0, 180.0)
    assert (options.trigger, options.recipe, options.live_view) == ("mqtt", "ball-screw", True)
    assert read_options(["--images", str(images), "--seconds", "5"]).parts is None


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--parts", "0"], ["--parts 0", "1 to"]),
        (["--seconds", "-1"], ["--seconds -1"]),
        (["--speed", "0"], ["--speed 0", "10 to"]),
        (["--speed", "nan"], ["--speed nan"]),
        (["--spacing", "100"], ["--spacing 100", "more than the part's length, 100 mm"]),
        (["--gate", "both"], ["--gate both", "plc", "bridge"]),
        (["--trigger", "profinet"], ["--trigger profinet", "mqtt, modbus, opcua"]),
        (["--model", "nowhere.lgb"], ["--model nowhere.lgb"]),
        (["--faults", "nowhere.toml"], ["--faults nowhere.toml"]),
        (["--faults", "nothing"], ["--faults nothing", "shipped are all, basic"]),
        (["--report", "nowhere/report.json"], ["--report nowhere/report.json", "does not exist"]),
    ],
)
def test_a_mistake_is_named(images: Path, arguments: list[str], named: list[str]) -> None:
    with pytest.raises(OptionsError) as caught:
        read_options(["--images", str(images), *arguments])

    for words in named:
        assert words in str(caught.value)


def test_an_image_folder_without_labels_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"--images .*sub-folder for each label"):
        read_options(["--images", str(tmp_path)])


def test_faults_of_mqtt_triggers_need_them(images: Path, tmp_path: Path) -> None:
    faults = tmp_path / "faults.toml"
    faults.write_text('[[fault]]\nkind = "missing_trigger"\nat_part = 3\n')

    with pytest.raises(OptionsError, match="missing_trigger needs --trigger mqtt"):
        read_options(["--images", str(images), "--faults", str(faults), "--trigger", "modbus"])


def test_a_shipped_faults_file_goes_by_its_name_and_a_wrong_clock_needs_its_source(
    images: Path, tmp_path: Path
) -> None:
    options = read_options(["--images", str(images), "--faults", "all"])
    assert options.faults is not None
    assert options.faults.is_file()
    for arguments, clock in ((["--faults", "all"], "source"), (["--faults", "basic"], "arrival"), ([], "arrival")):
        options = read_options(["--images", str(images), *arguments])
        with claimed_ports() as ports:
            document = tomllib.loads(write_config(tmp_path, options, ports).read_text())
        assert document["mqtt"]["trigger_clock"] == clock


def test_the_configuration_carries_the_options(images: Path, tmp_path: Path) -> None:
    options = read_options(["--images", str(images), "--speed", "900", "--trigger", "modbus"])
    with claimed_ports() as ports:
        document = tomllib.loads(write_config(tmp_path, options, ports).read_text())

    assert document["belt"] == {"speed_mm_s": 900.0, "speed_source": "encoder", "counts_per_mm": 10.0}
    assert document["opcua"]["anonymous"] is True
    assert document["stations"][0]["camera"] == {"kind": "folder", "folder": "camera"}
    assert len(set(ports.values())) == len(ports)


def test_two_demos_at_once_never_choose_the_same_port() -> None:
    with claimed_ports() as first, claimed_ports() as second:
        assert not set(first.values()) & set(second.values())


def test_a_busy_default_port_is_left_alone() -> None:
    with claimed_ports() as ports:
        port = ports["field"]
    with socket.create_server(("127.0.0.1", port)), claimed_ports() as chosen:
        assert port not in chosen.values()
