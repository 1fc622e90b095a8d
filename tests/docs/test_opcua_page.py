"""The page on OPC UA says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from bridge.outputs.opcua import control, server, transport, watch
from bridge.outputs.opcua.filters import MAX_ELEMENTS, MAX_FIELDS
from bridge.outputs.opcua.items import EVENT_QUEUE, MAX_EVENT_ITEMS, MAX_ITEMS
from bridge.outputs.plc import event_map
from bridge.outputs.plc.event_map import ALARM_EVENT, ALARM_FIELDS, ALARM_SEVERITIES, RESULT_EVENT, RESULT_SEVERITIES
from bridge.outputs.plc.node_map import RESULT_NODES

PAGE = (Path(__file__).parent.parent.parent / "docs" / "opcua.md").read_text()


def row(first: str) -> str:
    (found,) = [line for line in PAGE.splitlines() if line.startswith(f"| {first}")]
    return found


def test_each_event_type_has_the_fields_that_the_page_says() -> None:
    told = row(f"`ns=2;s={RESULT_EVENT}`").split("|")[3].split(":")[0]
    assert [each.strip() for each in told.split(",")] == [spec.name for spec in RESULT_NODES]
    told = row(f"`ns=2;s={ALARM_EVENT}`").split("|")[3]
    named = [(each.name, each.data_type) for each in ALARM_FIELDS]
    assert re.findall(r"[A-Z]\w+", told) == ["Code", "UInt16", "StopRequest", "Degraded", "Latched", "Boolean"]
    assert named == [("Code", "UInt16"), *((name, "Boolean") for name in ("StopRequest", "Degraded", "Latched"))]


def test_each_severity_is_the_one_that_the_page_says() -> None:
    for severity, number in ALARM_SEVERITIES.items():
        assert f"an alarm of severity {severity}" in row(str(number))
    for code, number in RESULT_SEVERITIES.items():
        assert code.name in row(str(number))
    assert set(event_map.RESULT_SEVERITIES) == {each for each in type(code) if each}


def test_the_limits_are_those_of_the_code() -> None:
    assert f"| {watch.MAX_BROWSED:,} |" in row("nodes or paths of one Browse")
    assert f"| {server.MAX_CONNECTIONS} each |" in row("connections, subscriptions")
    assert server.MAX_SUBSCRIPTIONS == server.MAX_CONNECTIONS
    assert f"| {MAX_ITEMS:,}, of events {MAX_EVENT_ITEMS}; queue of a value" in row("items of a subscription")
    assert f"| {watch.SHORTEST_INTERVAL_MS:g} ms at least" in row("publishing interval")
    assert f"| {server.SESSION_TIMEOUT_MS / 1e3:g} s at most" in row("session")
    assert f"| 65,535 bytes, {transport.MAX_REQUEST // 2**10} kB |" in row("chunk, request")
    assert f"| {control.MAX_OPERATIONS:,}; {transport.MAX_ARRAY:,} |" in row("values of one Read")
    assert f"closed after {server.PATIENCE_S:g} s" in row("a connection without a session")
    assert f"queue holds {EVENT_QUEUE:,}" in PAGE.replace("\n", " ")
    assert f"more than {MAX_ELEMENTS} elements or {MAX_FIELDS} fields" in PAGE
