"""The station's tests run in virtual time: no load of the machine makes a part late."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.station.virtual_time import VirtualTimeLoop


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, type[VirtualTimeLoop]]:
    return {"virtual time": VirtualTimeLoop}
