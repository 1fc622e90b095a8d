"""Grafana's board, its provisioning and Prometheus' alerts fit each other, the compose file and the bridge's metrics."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import combinations
from typing import Any

import pytest
import yaml

from tests.compose.boards import BOARD, RULES, expressions
from tests.compose.containers import ROOT, SBIN, compose_file

GRAFANA, PROMETHEUS = ROOT / "docker" / "grafana", ROOT / "docker" / "prometheus"
SERVICES = compose_file()["services"]
METRIC = re.compile(r"\b(linegate_\w+|process_\w+)\b")
KNOWN_PANELS = {"stat", "timeseries", "state-timeline", "alertlist"}


def described() -> set[str]:
    """Give every series that docs/metrics.md describes, histograms by their buckets."""
    rows = re.findall(r"^\| `(linegate_\w+)` \| (\w+) \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    return {f"{name}_bucket" if kind == "histogram" else name for name, kind in rows}


def promtool(*words: object) -> subprocess.CompletedProcess[str]:
    command = shutil.which("promtool", path=SBIN)
    if command is None:
        pytest.skip("Prometheus is not installed: apt-get install --no-install-recommends prometheus")
    return subprocess.run(
        [command, *(str(word) for word in words)], capture_output=True, text=True, timeout=80, check=False
    )


def test_every_metric_that_is_asked_for_is_one_of_the_bridges() -> None:
    asked = {
        name
        for text in (*expressions("1m").values(), *(rule["expr"] for rule in RULES))
        for name in METRIC.findall(text)
    }
    ours = {name for name in asked if name.startswith("linegate_")}
    assert ours == described()  # and all of them are asked for


def test_panels_are_well_formed_and_lie_beside_each_other() -> None:
    panels = BOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels) > 20
    assert {panel["type"] for panel in panels} == KNOWN_PANELS
    for panel in panels:
        assert panel["targets"] or panel["type"] == "alertlist"
        assert {target["expr"].count("(") - target["expr"].count(")") for target in panel["targets"]} <= {0}
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart_x or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


def test_the_board_and_its_sources_are_provisioned() -> None:
    mounts = {
        volume.split(":")[1]: ROOT / volume.split(":")[0]
        for volume in SERVICES["grafana"]["volumes"]
        if volume[0] == "."
    }
    provisioning = mounts["/etc/grafana/provisioning"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "linegate.yml").read_text())["providers"]
    assert (mounts[provider["options"]["path"]] / "linegate.json").is_file()
    sources: dict[str, Any] = {
        source["uid"]: source
        for source in yaml.safe_load((provisioning / "datasources" / "linegate.yml").read_text())["datasources"]
    }
    used = {target["datasource"]["uid"] for panel in BOARD["panels"] for target in panel["targets"]}
    used |= {panel["datasource"]["uid"] for panel in BOARD["panels"]}
    assert used == {"linegate-prometheus"} <= set(sources)
    assert sources["linegate-prometheus"]["url"] == "http://prometheus:9090"
    records = sources["linegate-records"]
    assert records["url"].split(":")[0] in SERVICES
    secret = re.fullmatch(r"\$__file\{/run/secrets/(\w+)\}", records["secureJsonData"]["password"])
    assert secret
    assert secret[1] in SERVICES["grafana"]["secrets"]
    assert set(SERVICES["grafana"]["networks"]) >= {
        *SERVICES["prometheus"]["networks"],
        *SERVICES["postgres"]["networks"],
    }


def test_prometheus_scrapes_the_bridge_where_it_answers() -> None:
    jobs = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    (target,) = next(job for job in jobs if job["job_name"] == "linegate")["static_configs"][0]["targets"]
    service, port = target.split(":")
    assert f"127.0.0.1:{port}:{port}" in SERVICES[service]["ports"]
    assert set(SERVICES[service]["networks"]) & set(SERVICES["prometheus"]["networks"])


def test_prometheus_takes_its_files() -> None:
    done = promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"SUCCESS: {len(RULES)} rules found" in done.stdout


@pytest.mark.timeout(90)
def test_each_alert_fires_when_it_should_and_not_before() -> None:
    cases = yaml.safe_load((ROOT / "tests" / "compose" / "alerts.yml").read_text())["tests"]
    fired = {check["alertname"] for case in cases for check in case["alert_rule_test"] if check.get("exp_alerts")}
    quiet = {check["alertname"] for case in cases for check in case["alert_rule_test"] if not check.get("exp_alerts")}
    assert fired == quiet == {rule["alert"] for rule in RULES}
    done = promtool("test", "rules", ROOT / "tests" / "compose" / "alerts.yml")
    assert (done.returncode, done.stderr) == (0, "")
