"""The configuration as a person writes it: every mistake named with its key, its value and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config_file import load_config
from bridge.errors import ConfigError
from bridge.setup_files import render_config


def load(tmp_path: Path, text: str, **environment: str) -> object:
    file = tmp_path / "linegate.toml"
    file.write_text(text)
    return load_config(file, environment)


def test_the_written_file_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(render_config())
    (tmp_path / "b.toml").write_text("")
    assert load_config(tmp_path / "a.toml", {}) == load_config(tmp_path / "b.toml", {})


def test_the_written_file_has_every_key_on_a_line_of_its_own() -> None:
    lines = render_config().splitlines()
    keys = [line.split(" = ")[0] for line in lines if " = " in line and not line.startswith("#")]
    assert {"speed_mm_s", "max_payload_bytes", "gate_distance_mm", "pulse_ms", "result_ack", "keep_nth"} <= set(keys)
    assert all("#" in line for line in lines if " = " in line)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[belt]\nsped_mm_s = 3.0", ["unknown key 'belt.sped_mm_s'", "nearest known one is 'speed_mm_s'"]),
        ("[bellt]\nspeed_mm_s = 3.0", ["unknown key 'bellt'", "'belt'"]),
        ("[[stations]]\nnme = 'a'", ["unknown key 'stations.0.nme'", "'name'"]),
        ("[[stations]]\ngate = {kinds = 'pulse'}", ["unknown key 'stations.0.gate.kinds'", "'kind'"]),
        ("[belt]\nspeed_source = 'magic'", ["belt.speed_source = 'magic'", "'fixed', 'mqtt', 'plc' or 'encoder'"]),
        ("[belt]\nspeed_mm_s = -1", ["belt.speed_mm_s = -1", "greater than 0"]),
        ("[belt]\nspeed_mm_s = nan", ["belt.speed_mm_s = nan", "finite"]),
        ("[line]\nname = '1st line'", ["line.name = '1st line'"]),
        ("[mqtt]\nport = 70000", ["mqtt.port = 70000", "65535"]),
        ("[mqtt]\nport = 'x'", ["mqtt.port = 'x'", "integer"]),
        ("[[stations]]\nname='a'\n[[stations]]\nname='a'", ["not all different"]),
        ("[[stations]]\ngate = {mode = 'both'}", ["stations.0.gate.mode = 'both'", "'plc'", "'bridge'"]),
        ("[[stations]]\ncamera = {kind = 'folder'}", ['camera kind "folder" needs the key folder']),
        ("[records]\nurl = 'mysql://me:s3cret@host/db'", ["records.url = 'mysql://me:...@host/db'", "postgresql://"]),
        ("[records]\nurl = 'postgresql://me@host'", ["records.url = 'postgresql://me@host'", "USER@HOST/DATABASE"]),
        ("[opcua]\npolicies = []", ["opcua", "policies = []", "anonymous = true"]),
        ("[opcua]\npolicies = ['Basic128Rsa15']", ["opcua.policies.0 = 'Basic128Rsa15'", "'Basic256Sha256'"]),
        ("[opcua]\nhosts = ['cell 7']", ["opcua.hosts.0 = 'cell 7'"]),
        ("[belt\n", ["not valid TOML"]),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    for part in parts:
        assert part in str(caught.value)


def test_users_and_certificates_lie_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "linegate.toml").write_text("[opcua]\nusers_file = 'who.toml'")
    opcua = load_config(tmp_path / "linegate.toml", {}).opcua
    assert (opcua.users_file, opcua.pki_folder) == (tmp_path / "who.toml", tmp_path / "pki")


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="linegate init"):
        load_config(tmp_path / "none.toml", {})


def test_the_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINEGATE_MODBUS__PORT", "6000")
    monkeypatch.setenv("LINEGATE_MODBUS__ALLOW", '["10.0.0.0/8"]')
    (tmp_path / "linegate.toml").write_text("[modbus]\nport = 5555\nmax_connections = 3")
    config = load_config(tmp_path / "linegate.toml")
    assert (config.modbus.port, config.modbus.allow, config.modbus.max_connections) == (6000, ("10.0.0.0/8",), 3)


def test_a_misspelt_variable_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"LINEGATE_MODBUSS__PORT.*'MODBUS'"):
        load(tmp_path, "", LINEGATE_MODBUSS__PORT="1")


def test_relative_paths_count_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "linegate.toml").write_text("[[stations]]\nname = 'a'\nimage_folder = 'shots'")
    config = load_config(tmp_path / "linegate.toml", {})
    assert config.stations[0].image_folder == tmp_path / "shots"
    assert config.records.url == f"sqlite:///{tmp_path}/data/linegate.db"
    assert config.records.pictures == tmp_path / "data/pictures"


def test_a_password_comes_from_a_file_and_a_missing_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("swordfish\n")
    (tmp_path / "linegate.toml").write_text("[mqtt]\npassword_file = 'secret'")
    assert load_config(tmp_path / "linegate.toml", {}).mqtt.password == "swordfish"
    (tmp_path / "linegate.toml").write_text("[mqtt]\npassword_file = 'gone'")
    with pytest.raises(ConfigError, match=r"mqtt\.password_file"):
        load_config(tmp_path / "linegate.toml", {})
