"""What several tests of models need alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models.pictures import draw_folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("plates") / "seen", {"good": 40, "scratch": 30, "spot": 30})


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
