"""What a lost way into a PLC does to the station: alarms, Ready, GateUnguarded; and who is concerned at all."""

from __future__ import annotations

import pytest

from bridge.domain.condition import Condition
from bridge.domain.gate_settings import GateMode
from bridge.domain.messages import GateNews, PlcBeat, PlcLink, PlcLinkState
from bridge.domain.recipe import Recipe
from bridge.domain.status import StationStatus


def station(gate_mode: GateMode = "plc") -> Condition:
    condition = Condition(gate_mode=gate_mode)
    condition.mqtt_up = True
    condition.activate(
        Recipe(name="a", number=1, revision=1, bundle="b", labels=("ok",), good_labels=("ok",)), "m@1", "ab"
    )
    condition.plc_beat(PlcBeat(value=1, at_ns=1))
    return condition


def told(
    condition: Condition, state: PlcLinkState, *, link: str = "modbus_client", drives_gate: bool = True
) -> StationStatus:
    condition.plc_link(PlcLink(link=link, state=state, drives_gate=drives_gate, reason=f"{link} is {state}"))
    return condition.status(belt_speed_mm_s=1200.0)


@pytest.mark.parametrize(("state", "alarm"), [("opening", 0), ("lost", 48), ("refused", 49)])
def test_a_plc_at_the_gate_that_is_not_written_takes_ready_and_guard(state: PlcLinkState, alarm: int) -> None:
    condition = station()
    before = told(condition, "up")
    assert (before.ready, before.gate_unguarded, before.degraded, before.error_code) == (True, False, False, 0)
    after = told(condition, state)
    assert (after.ready, after.gate_unguarded, after.degraded, after.error_code) == (False, True, alarm > 0, alarm)
    assert any(f"modbus_client is {state}" in reason for reason in condition.not_ready)
    again = told(condition, "up")
    assert (again.ready, again.gate_unguarded, again.degraded, again.error_code) == (True, False, False, 0)
    assert condition.not_ready == []


def test_a_display_that_is_lost_is_an_alarm_and_nothing_else() -> None:
    status = told(station(), "lost", drives_gate=False)
    assert (status.ready, status.gate_unguarded, status.degraded, status.error_code) == (True, False, True, 48)


def test_each_link_counts_for_itself_and_the_alarm_stands_for_both() -> None:
    condition = station()
    told(condition, "lost")
    told(condition, "lost", link="opcua_client")
    assert told(condition, "up").error_code == 48
    status = told(condition, "up", link="opcua_client")
    assert (status.ready, status.error_code) == (True, 0)


def test_loss_and_refusal_of_one_plc_are_never_both_alarmed() -> None:
    condition = station()
    told(condition, "lost")
    told(condition, "refused")
    assert condition.alarms.standing == ("PLC_REFUSES",)


def test_where_the_bridge_fires_no_plc_unguards_the_gate() -> None:
    condition = station("bridge")
    condition.gate_news(GateNews(event="up"))
    status = told(condition, "lost", drives_gate=False)
    assert (status.ready, status.gate_unguarded, status.degraded) == (True, False, True)
