"""docs/metrics.md can't lie: its table is the code's, and its rules ask for metrics and labels that a scrape gives."""

from __future__ import annotations

import re
import textwrap

import yaml
from prometheus_client.parser import text_string_to_metric_families

from bridge.monitoring.metrics import render
from tests.docs.write_tables import METRICS, with_metrics
from tests.monitoring.samples import SOURCES


def scraped() -> dict[str, list[dict[str, str]]]:
    """Give the labels of every series by its name."""
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(render(SOURCES)().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def test_the_table_is_that_of_the_code() -> None:
    text = METRICS.read_text(encoding="utf-8")
    assert text == with_metrics(text), "run `make docs`"


def test_every_metric_that_the_page_names_is_there() -> None:
    names = set(re.findall(r"\b(?:linegate|process)(?:_[a-z]+)+\b", METRICS.read_text(encoding="utf-8")))
    series = scraped()
    histograms = {name.removesuffix("_bucket") for name in series if name.endswith("_bucket")}
    assert len(names) > 30
    assert names - set(series) - histograms == set()


def test_the_alerts_select_series_by_labels_that_exist() -> None:
    text = METRICS.read_text(encoding="utf-8")
    (block,) = re.findall(r"\n    groups:\n(?:    .*\n)+", text)
    (group,) = yaml.safe_load(textwrap.dedent(block))["groups"]
    series = scraped()
    assert len(group["rules"]) == 3
    for rule in group["rules"]:
        assert rule["annotations"]["summary"]
        expression = rule["expr"]
        assert expression.count("(") == expression.count(")")
        selectors = re.findall(r"(linegate_\w+)(?:\{(\w+)=\"(\w+)\"\})?", expression)
        assert selectors
        for name, label, value in selectors:
            assert [each for each in series[name] if not label or each[label] == value], (name, label, value)
            for by in re.findall(r"by \(([^)]*)\)", expression):
                assert set(by.split(", ")) <= set(series[name][0])
