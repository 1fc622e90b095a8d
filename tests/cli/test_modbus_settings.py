"""The keys of the ways into the Modbus server: mistakes are named, paths count from the file's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config import Config
from bridge.config_file import load_config
from bridge.errors import ConfigError
from bridge.line_report import modbus_warnings, modbus_ways
from bridge.plc_adapters import modbus_settings


def load(tmp_path: Path, text: str, **environment: str) -> Config:
    file = tmp_path / "linegate.toml"
    file.write_text(text)
    return load_config(file, environment)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[modbus.serial]\ndevise = 'x'", ["unknown key 'modbus.serial.devise'", "'device'"]),
        ("[modbus.tls]\nclientca = 'x'", ["unknown key 'modbus.tls.clientca'", "'client_ca'"]),
        ("[modbus.serial]\nbaud_rate = 100", ["modbus.serial.baud_rate = 100", "300"]),
        ("[modbus.serial]\nparity = 'mark'", ["modbus.serial.parity = 'mark'", "'even', 'odd' or 'none'"]),
        ("[modbus.serial]\nstop_bits = 3", ["modbus.serial.stop_bits = 3", "2"]),
        ("[modbus.tls]\nenabled = true", ["modbus.tls: cert", "PEM"]),
        ("[modbus.tls]\nenabled = true\ncert = 'a'", ["modbus.tls: key", "PEM"]),
        ("[modbus.tls]\nport = 0", ["modbus.tls.port = 0", "1"]),
        ("[modbus]\nplain = false", ["modbus: plain = false", "enabled = false"]),
        ("[modbus]\nport = 802\n[modbus.tls]\nenabled = true\ncert = 'a'\nkey = 'b'", ["port = 802", "two ports"]),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert [part for part in parts if part not in str(caught.value)] == []


def test_paths_count_from_the_folder_of_the_file(tmp_path: Path) -> None:
    text = (
        "[modbus.tls]\nenabled = true\ncert = 'tls/a.pem'\nkey = '/etc/b.key'\n[modbus.serial]\ndevice = '/dev/ttyS7'"
    )
    modbus = load(tmp_path, text).modbus
    assert (modbus.tls.cert, modbus.tls.key, modbus.tls.client_ca) == (tmp_path / "tls/a.pem", Path("/etc/b.key"), None)
    assert modbus.serial.device == Path("/dev/ttyS7")


def test_a_serial_line_alone(tmp_path: Path) -> None:
    config = load(tmp_path, "")
    assert config.modbus.serial.device is None
    changed = Config(
        modbus={
            "plain": False,
            "serial": {"device": "/dev/ttyS7", "stop_bits": "2", "parity": "none", "baud_rate": 9600},
        }
    )
    settings = modbus_settings(changed)
    assert settings is not None and settings.serial is not None
    assert (settings.port, settings.tls) == (None, None)
    assert settings.serial.gap_s == pytest.approx(3.5 * 11 / 9600)
    assert modbus_ways(changed.modbus) == ["/dev/ttyS7 at 9600 baud, 8N2"]


def test_nothing_is_served_when_it_is_off() -> None:
    off = Config(modbus={"enabled": False, "plain": False, "serial": {"device": "/dev/ttyS7"}})
    assert modbus_settings(off) is None
    assert (modbus_ways(off.modbus), modbus_warnings(off.modbus)) == ([], [])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"host": "127.0.0.1"}, []),
        ({"host": "0.0.0.0"}, ["modbus.allow is what guards it"]),
        ({"host": "0.0.0.0", "allow": ["10.0.0.4", "0.0.0.0/0"]}, ["modbus.allow = ['0.0.0.0/0'] lets everybody in"]),
        ({"host": "::", "allow": ["::/0"]}, ["modbus.allow = ['::/0'] lets everybody in"]),
        ({"host": "0.0.0.0", "plain": False, "tls": {"enabled": True, "cert": "a", "key": "b"}}, ["client_ca"]),
        ({"host": "0.0.0.0", "plain": False, "tls": {"enabled": True, "cert": "a", "key": "b", "client_ca": "c"}}, []),
    ],
)
def test_who_may_come_without_a_certificate_is_warned_of(settings: dict[str, object], words: list[str]) -> None:
    warnings = modbus_warnings(Config(modbus=settings).modbus)
    assert len(warnings) == len(words)
    assert all(word in warning for word, warning in zip(words, warnings, strict=True))
