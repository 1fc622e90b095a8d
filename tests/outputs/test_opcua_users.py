"""The file of users and the guard against guessing."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.outputs.opcua.log_in import FREE_TRIES, LOCKED_S, LogIns
from bridge.outputs.opcua.users import UserRecord, hashed, load_users, save_users

HASH = hashed("long enough")


def user(name: str = "plc1", password: str = HASH) -> UserRecord:
    return UserRecord(name=name, role="plc", password=password)


def test_users_come_back_as_they_were_written_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "users.toml"
    users = (user("plc1"), UserRecord(name="eyes@scada.plant-1", role="viewer", password=hashed("another one")))
    save_users(path, users)
    assert load_users(path) == users
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "long enough" not in path.read_text()
    assert [file.name for file in path.parent.iterdir()] == ["users.toml"]
    assert load_users(tmp_path / "none.toml") == ()


def test_a_password_is_told_from_another_and_never_shown() -> None:
    assert user().admits("long enough")
    assert not user().admits("long enoughh")
    assert not user().admits("")
    assert hashed("long enough") != HASH
    assert HASH not in repr(user())
    assert user(password=hashed("pässwörter")).admits("pässwörter")


@pytest.mark.parametrize("password", ["", "short", "x" * 129, "ü" * 65])
def test_a_password_too_short_or_too_long_is_named(password: str) -> None:
    with pytest.raises(ConfigError, match="allowed are 8 to 128"):
        hashed(password)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[users", "not valid TOML"),
        ("[[user]]\nname = 'a'", r"allowed are \[\[users\]\] tables"),
        ("users = 3", r"allowed are \[\[users\]\] tables"),
        ("[[users]]\nname = 'a'", "name, role and password"),
        ("users = [3]", "name, role and password"),
        (f"[[users]]\nname = 'a b'\nrole = 'plc'\npassword = '{HASH}'", "'a b': allowed are 1 to 64 letters"),
        (f"[[users]]\nname = 'a'\nrole = 'admin'\npassword = '{HASH}'", "role = 'admin': allowed is one of viewer"),
        ("[[users]]\nname = 'a'\nrole = 'plc'\npassword = 'in the clear'", "linegate users add a"),
        ("[[users]]\nname = 'a'\nrole = 'plc'\npassword = 'scrypt$1073741824$8$1$YQ==$YQ=='", "linegate users add a"),
        (f"[[users]]\nname = 'a'\nrole = 'plc'\npassword = '{HASH}'\n" * 2, "not all different"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "users.toml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        load_users(tmp_path / "users.toml")


async def test_an_address_that_guesses_is_locked_and_another_is_not() -> None:
    now = [1_000.0]
    log_ins, users = LogIns(lambda: now[0]), {"plc1": user()}

    async def tries(password: str, address: str = "10.0.0.9") -> bool:
        return await log_ins.check(users, name="plc1", password=password, address=address) is not None

    for _ in range(FREE_TRIES - 1):
        assert not await tries("a wrong one")
    assert await tries("long enough")
    for _ in range(FREE_TRIES):
        assert not await tries("a wrong one")
    assert not await tries("long enough")
    assert await tries("long enough", "10.0.0.8")
    now[0] += LOCKED_S - 1
    assert not await tries("long enough")
    now[0] += 1
    assert await tries("long enough")
    log_ins.close()


async def test_each_wrong_password_is_logged_until_the_address_is_locked(capsys: pytest.CaptureFixture[str]) -> None:
    log_ins = LogIns(lambda: 0.0)
    for number in range(FREE_TRIES + 3):
        await log_ins.check({}, name=f"guess{number}", password="a wrong one", address="10.0.0.9")
    logged = capsys.readouterr().out
    assert [f"user=guess{number}" in logged for number in range(FREE_TRIES + 3)] == [True] * FREE_TRIES + [False] * 3
    assert logged.count("opcua_client_locked") == 1
    log_ins.close()


async def test_nobody_is_let_in_by_the_stand_in_for_unknown_users() -> None:
    log_ins = LogIns()
    for name, password in (("nobody", "whatever it is"), ("", "whatever it is"), ("plc1", "whatever it is")):
        assert await log_ins.check({}, name=name, password=password, address="10.0.0.9") is None
    log_ins.close()
