"""What a page that comes late learns of a station by its status alone: alarms that stand, recipes to choose from."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bridge.domain.part import Part
from bridge.recipe_files import recipe_names
from tests.station.fakes import Bench


async def good(_part: Part) -> float:
    return 0.1


async def test_standing_alarms_and_recipes_are_in_the_status() -> None:
    async with Bench(good) as bench:
        bench.recipes.models["bracket-a"] = bench.loaded
        bench.condition.raise_alarm("TRIGGER_MISSED", "3 missing")
        async with asyncio.timeout(5):
            while not bench.output.statuses or not bench.output.statuses[-1].recipes:
                await asyncio.sleep(0.01)
        status = bench.output.statuses[-1]
        assert status.recipes == ("bracket-a",)
        assert ("TRIGGER_MISSED", "3 missing") in status.alarms
        bench.condition.clear_error()
        async with asyncio.timeout(5):
            while "TRIGGER_MISSED" in dict(bench.output.statuses[-1].alarms):
                await asyncio.sleep(0.01)


def test_recipe_files_are_listed_by_name_with_the_shipped_ones(tmp_path: Path) -> None:
    for name in ("bracket-b.toml", "bracket-a.toml", "ball-screw.toml", "notes.txt", "no name.toml"):
        (tmp_path / name).touch()
    assert recipe_names(tmp_path) == ("ball-screw", "bracket-a", "bracket-b")
    assert recipe_names(tmp_path / "nowhere") == ("ball-screw",)
