"""Grafana's board and Prometheus' rules, as the tests look at them."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from tests.compose.containers import ROOT

BOARD: dict[str, Any] = json.loads((ROOT / "docker" / "grafana" / "boards" / "linegate.json").read_text())
RULES: list[dict[str, Any]] = yaml.safe_load((ROOT / "docker" / "prometheus" / "rules.yml").read_text())["groups"][0][
    "rules"
]
INTERVAL = re.compile(r"\[\d+m\]")


def expressions(rate: str) -> dict[str, str]:
    """Give every expression of the board by panel and letter, with its variables filled in as Grafana does.

    Spans of minutes become `rate`, too: a test has none to wait.
    """
    return {
        f"{panel['title']} {target['refId']}": INTERVAL.sub(
            f"[{rate}]", target["expr"].replace("$station", ".*").replace("$__rate_interval", rate)
        )
        for panel in BOARD["panels"]
        for target in panel["targets"]
    }
