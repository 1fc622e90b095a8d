"""The keys of the guards: what is refused, and what `check-config` says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.config_file import load_config
from bridge.errors import ConfigError
from bridge.setup_files import write_project
from tests.cli.processes import linegate

KEYS = """\
confirm_distance_mm = 760.0
confirm_window_ms = 150.0
dry_run = true
"""


def configuration(folder: Path, keys: str) -> Path:
    path = folder / "linegate.toml"
    path.write_text(f"[[stations]]\n{keys}\n")
    return path


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("confirm_distance_mm = 600.0", ["confirm_distance_mm = 600", "more than gate_distance_mm = 600"]),
        ("confirm_distance_mm = -1.0", ["confirm_distance_mm", "-1"]),
        ("confirm_window_ms = 0.0", ["confirm_window_ms", "0"]),
        ("max_consecutive_rejects = -1", ["max_consecutive_rejects", "-1"]),
        ("max_consecutive_failures = 2.5", ["max_consecutive_failures", "2.5"]),
        ("challenge_hours = 9000.0", ["challenge_hours", "9000"]),
        ('dry_run = "perhaps"', ["dry_run", "perhaps"]),
        ("max_consecutive_reject = 5", ["max_consecutive_reject", "max_consecutive_rejects"]),
    ],
)
def test_a_wrong_key_is_named_with_its_value_and_what_is_allowed(tmp_path: Path, keys: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(configuration(tmp_path, keys), {})
    assert [word for word in words if word not in str(refused.value)] == []


def test_the_defaults_count_runs_and_nothing_else(tmp_path: Path) -> None:
    (station,) = load_config(configuration(tmp_path, ""), {}).stations
    assert (station.max_consecutive_rejects, station.max_consecutive_failures) == (10, 3)
    assert (station.confirm_distance_mm, station.challenge_hours, station.touching_tolerance_mm) == (0, 0, 0)
    assert not station.dry_run


def test_check_config_says_what_the_bin_can_tell_and_warns_of_a_dry_run(tmp_path: Path) -> None:
    write_project(tmp_path)
    configuration(tmp_path, KEYS)
    done = linegate(tmp_path, "check-config")
    assert (done.returncode, done.stderr) == (0, "")
    assert "bin: a reject must be counted at 633.3 ms, give or take 150 ms" in done.stdout
    warned = done.stdout.split("warnings:")[1]
    assert "confirm_window_ms = 150 is not below 145.8 ms" in warned
    assert "dry_run = true" in warned
