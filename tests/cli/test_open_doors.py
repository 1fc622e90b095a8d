"""`check-config` names each door that a configuration leaves open, and none where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config import Config
from bridge.open_doors import open_doors
from tests.cli.processes import linegate


def test_the_defaults_leave_no_door_open() -> None:
    assert open_doors(Config()) == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"http": {"host": "0.0.0.0"}}, "http.host = '0.0.0.0': whoever reaches port 9464 reads"),
        ({"mqtt": {"host": "10.0.0.5"}}, "pictures and commands go readably to 10.0.0.5"),
        ({"mqtt": {"host": "10.0.0.5", "username": "cell7"}}, "the password too"),
        ({"models": {"require_signature": False}}, "models.require_signature = false"),
    ],
)
def test_a_door_is_named_with_its_key(settings: dict[str, object], told: str) -> None:
    (warning,) = open_doors(Config.model_validate(settings))
    assert told in warning


def test_a_broker_with_an_authority_is_no_open_door() -> None:
    assert open_doors(Config(mqtt={"host": "10.0.0.5", "tls_ca": "ca.pem"})) == []


def test_secrets_that_everybody_can_read_are_named_until_they_are_closed(tmp_path: Path) -> None:
    assert linegate(tmp_path, "init").returncode == 0
    (tmp_path / "secret").write_text("long enough")
    added = linegate(tmp_path, "users", "add", "plc1", "--role", "plc", "--password-file", "secret")
    assert added.returncode == 0
    assert "no warnings" in linegate(tmp_path, "check-config").stdout
    for mode, told in ((0o644, True), (0o600, False)):
        (tmp_path / "users.toml").chmod(mode)
        shown = linegate(tmp_path, "check-config").stdout
        assert ("opcua.users_file" in shown and "chmod 600" in shown) is told
