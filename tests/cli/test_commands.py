"""Every command that ends by itself, as a process: what it prints, what it refuses, and its exit code."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import re
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.config import Config
from bridge.config_file import load_config
from bridge.errors import ConfigError
from bridge.setup_files import write_project
from tests.cli.processes import environment, linegate, one_line


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `linegate init` leaves it."""
    folder = tmp_path_factory.mktemp("init") / "line1"
    done = linegate(folder.parent, "init", "line1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:2] == ["wrote line1/linegate.toml", "wrote line1/recipes/ball-screw.toml"]
    return folder


def keys_of(schema: dict[str, Any], at: str = "") -> Iterator[str]:
    """Give every key of a table in the JSON schema, and of the tables in it, with its path."""
    for name, member in schema["properties"].items():
        kind = member.get("$ref") or member.get("items", {}).get("$ref")
        if kind is None:
            yield f"{at}{name}"
        else:
            yield from keys_of(Config.model_json_schema()["$defs"][kind.rsplit("/", 1)[-1]], f"{at}{name}.")


def paths_of(document: dict[str, Any], at: str = "") -> Iterator[str]:
    for name, value in document.items():
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, dict) and first:
            yield from paths_of(first, f"{at}{name}.")
        else:
            yield f"{at}{name}"


# ---- init ------------------------------------------------------------------------------------------------------------


def test_init_writes_every_key_with_its_default(project: Path) -> None:
    text = (project / "linegate.toml").read_text()
    document = tomllib.loads(text)
    assert set(paths_of(document)) == set(keys_of(Config.model_json_schema()))
    assert document["stations"][0]["camera"]["kind"] == "inline"
    assert document["stations"][0]["recipe"] == "ball-screw"
    (project / "empty.toml").write_text("")
    assert load_config(project / "linegate.toml", {}) == load_config(project / "empty.toml", {})
    settings = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all("#" in line for line in settings), "each key has a comment"
    assert sorted(path.name for path in project.rglob("*") if path.name != "empty.toml") == [
        "ball-screw.toml",
        "linegate.toml",
        "recipes",
    ]


def test_init_writes_the_shipped_recipe(project: Path) -> None:
    recipe = tomllib.loads((project / "recipes" / "ball-screw.toml").read_text())
    assert (recipe["name"], recipe["bundle"]) == ("ball-screw", "ball-screw-1.0.0")
    assert recipe["policy"] == dict.fromkeys(("fail", "uncertain", "error", "late"), "reject")


@pytest.mark.parametrize("name", ["linegate.toml", "recipes/ball-screw.toml"])
def test_init_overwrites_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / name).write_text("mine")
    assert f"{name}: exists already and is not overwritten" in one_line(linegate(tmp_path, "init"), code=2)
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["mine"]


def test_init_follows_no_link_and_makes_no_folder_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "linegate.toml").symlink_to(tmp_path / "elsewhere.toml")
    with pytest.raises(ConfigError, match="exists already"):
        write_project(tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match=r"file/linegate\.toml: can't be written"):
        write_project(tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "linegate.toml"]


# ---- check-config ----------------------------------------------------------------------------------------------------


def test_check_config_tells_what_the_defaults_mean(project: Path) -> None:
    done = linegate(project, "check-config")
    assert (done.returncode, done.stderr) == (0, "")
    for told in (
        "the verdict must stand within 407.5 ms",
        "commanded on at 447.5 ms, is fully open at 487.5 ms, and the part's front edge is there at 500.0 ms",
        "130 mm of belt, 108.3 ms",
        "smallest pitch that can be separated: 175 mm",
    ):
        assert told in done.stdout
    assert "opcua.anonymous = false" in done.stdout.split("warnings:")[1]


@pytest.mark.parametrize(
    ("text", "settings", "named"),
    [
        ("[belt]\nsped_mm_s = 3.0", {}, ["unknown key 'belt.sped_mm_s'", "nearest known one is 'speed_mm_s'"]),
        ("[belt]\nspeed_source = 'magic'", {}, ["belt.speed_source = 'magic'", "'fixed', 'mqtt', 'plc' or 'encoder'"]),
        ("[line]\nname = 'a'\n[mqtt\nport = 1", {}, ["not valid TOML", "line 3"]),
        ("[[stations]]\nrecipe = 'ball-scew'", {}, ["recipe = 'ball-scew'", "nearest known one is 'ball-screw'"]),
        ("", {"modbus__allow": "10.0.0.0/8"}, ["LINEGATE_MODBUS__ALLOW = '10.0.0.0/8'", "JSON"]),
    ],
)
def test_a_mistake_is_one_line_and_code_2(
    tmp_path: Path, text: str, settings: dict[str, str], named: list[str]
) -> None:
    (tmp_path / "linegate.toml").write_text(text)
    line = one_line(linegate(tmp_path, "check-config", **settings), code=2)
    for each in named:
        assert each in line


@pytest.mark.parametrize(
    ("text", "variables", "named"),
    [
        ("[mqtt]\npassword_file = 'binary'", {}, [r"mqtt\.password_file = '.*binary'", "UTF-8"]),
        ("[mqtt]\npassword = 4711", {}, [r"mqtt\.password = '\.\.\.'", "string"]),
        ("belt = 3", {}, ["belt = 3: a table of keys is needed"]),
        ("stations = 3", {}, ["stations = 3: a list is needed"]),
        ("", {"LINEGATE_MODBUS__PORT": "70000"}, [r"modbus\.port = '70000' \(from LINEGATE_MODBUS__PORT\)", "65535"]),
        ("", {"LINEGATE_STATIONS": '[{"name": '}, ["LINEGATE_STATIONS", "JSON"]),
        ("", {"LINEGATE_STATIONS": '[{"name": "1st"}]'}, [r"stations\.0\.name = '1st' \(from LINEGATE_STATIONS\)"]),
        ("", {"LINEGATE_MQTT__PASSWORD_FILE": "gone"}, [r"mqtt\.password_file = '.*gone'", "No such file"]),
        ("", {"LINEGATE_MQTT": '{"password": "4711"'}, ["LINEGATE_MQTT: ", "JSON"]),
        ("", {"LINEGATE_MQQT__PORT": "1"}, ["LINEGATE_MQQT__PORT", "'MQTT'"]),
    ],
)
def test_a_mistake_names_its_place_and_shows_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, variables: dict[str, str], named: list[str]
) -> None:
    (tmp_path / "linegate.toml").write_text(text)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "linegate.toml")
    for each in named:
        assert re.search(each, str(caught.value))
    assert "4711" not in str(caught.value)


def test_a_missing_configuration_says_what_to_do(tmp_path: Path) -> None:
    line = one_line(linegate(tmp_path, "check-config", "--config", "absent.toml"), code=2)
    assert "absent.toml: no such file" in line
    assert "linegate init" in line


def test_the_environment_and_files_of_secrets_reach_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "linegate.toml").write_text("[modbus]\nport = 5555\nmax_connections = 3")
    (tmp_path / "secret").write_text("swordfish\n")
    settings = {"modbus__port": "6000", "modbus__allow": '["10.0.0.0/8", "127.0.0.1"]', "belt__speed_mm_s": "600",
                "mqtt__password_file": "secret", "stations": '[{"name": "east"}, {"name": "west"}]'}  # fmt: skip
    done = linegate(tmp_path, "check-config", **settings)
    assert (done.returncode, done.stderr) == (0, "")
    for told in ("belt at 600 mm/s", "station east:", "station west:"):
        assert told in done.stdout
    for name, value in environment(**settings).items():
        monkeypatch.setenv(name, value)
    config = load_config(tmp_path / "linegate.toml")
    assert (config.modbus.port, config.modbus.max_connections) == (6000, 3)
    assert config.modbus.allow == ("10.0.0.0/8", "127.0.0.1")
    assert config.mqtt.password == "swordfish"


def test_the_schema_is_json(tmp_path: Path) -> None:
    done = linegate(tmp_path, "check-config", "--schema")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == json.loads(json.dumps(Config.model_json_schema()))


# ---- tags, version, records ------------------------------------------------------------------------------------------


def test_tags_as_json_and_csv_hold_the_same(tmp_path: Path) -> None:
    (tmp_path / "linegate.toml").write_text("[line]\nname = 'hall'\n[[stations]]\nname = 'east'")
    as_json = linegate(tmp_path, "tags", "--format", "json")
    as_csv = linegate(tmp_path, "tags", "--format", "csv")
    assert (as_json.returncode, as_csv.returncode, as_json.stderr + as_csv.stderr) == (0, 0, "")
    json.loads(as_json.stdout)
    rows = list(csv.DictReader(io.StringIO(as_csv.stdout)))
    assert len({len(row) for row in rows}) == 1
    assert all(None not in row and None not in row.values() for row in rows)
    for name in ("ResultsWritten", "hall.east.Result.Verdict", "MissedTriggers", "STOPPING"):
        assert name in as_csv.stdout
        assert name in as_json.stdout


def test_tags_as_markdown_are_whole_tables(tmp_path: Path) -> None:
    done = linegate(tmp_path, "tags")
    assert (done.returncode, done.stderr) == (0, "")
    tables = [block.splitlines() for block in done.stdout.split("\n\n") if block.startswith("|")]
    assert len(tables) > 5
    for table in tables:
        assert len({line.count("|") - line.count("\\|") for line in table}) == 1, table[0]
        assert set(table[1]) <= set("|- ")


def test_tags_as_structured_text(tmp_path: Path) -> None:
    done = linegate(tmp_path, "tags", "--format", "st")
    assert (done.returncode, done.stderr) == (0, "")
    for begin, end in (("FUNCTION_BLOCK", "END_FUNCTION_BLOCK"), ("VAR_GLOBAL", "END_VAR"), ("(*", "*)")):
        assert done.stdout.count(begin) > 0
        assert done.stdout.count(end) > 0
    assert done.stdout.count("(*") == done.stdout.count("*)")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("tags", "--format", "xml"), ["--format", "'xml'", "'md', 'csv', 'json', 'st'"]),
        (("run", "--confg", "a.toml"), ["--confg"]),
    ],
)
def test_wrong_usage_is_code_2(tmp_path: Path, arguments: tuple[str, ...], named: list[str]) -> None:
    done = linegate(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    for each in named:
        assert each in done.stderr


def test_the_version_is_the_distributions(tmp_path: Path) -> None:
    done = linegate(tmp_path, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"linegate {importlib.metadata.version('linegate')}\n"
    assert (Path(sysconfig.get_path("scripts")) / "linegate").is_file()


def test_records_without_a_journal(project: Path) -> None:
    assert "there is no database" in one_line(linegate(project, "records", "list"), code=1)
    assert not (project / "data").exists()
