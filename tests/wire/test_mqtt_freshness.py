"""Triggers that the broker holds back, and such as TCP would: an arrival must not lie about where a part is."""

import asyncio
import statistics
import time
from typing import Any

import pytest

from bridge.domain.messages import Arrival
from bridge.inputs.mqtt_client import Broker
from tests.wire.test_mqtt_link import JPEG, Foreign, Inbox, eventually, link_to

pytestmark = pytest.mark.realtime


class Station(Inbox):
    """Acknowledges when it is told to; `age_ms` is how long after its sending a trigger arrived."""

    def __init__(self) -> None:
        super().__init__()
        self.sent_ns: dict[int, int] = {}

    def age_ms(self, arrival: Arrival) -> float:
        return (arrival.trigger.arrived_ns - self.sent_ns[arrival.trigger.sequence]) / 1e6


def send(foreign: Foreign, station: Station, sequence: int) -> None:
    station.sent_ns[sequence] = time.monotonic_ns()
    foreign.publish("trigger", JPEG, ContentType="image/jpeg", UserProperty=[("sequence", str(sequence))])


async def test_a_trigger_that_waited_for_acknowledgements_is_told(mosquitto: Any) -> None:
    station = Station()
    link = link_to(mosquitto.port, station, broker=Broker(host="127.0.0.1", port=mosquitto.port, receive_maximum=8))
    foreign = Foreign(mosquitto.port)
    link.start()
    try:
        await eventually(lambda: link.subscribed)
        for sequence in range(20):
            send(foreign, station, sequence)
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        for number in range(20):
            await eventually(lambda number=number: len(station.arrivals()) > number)
            station.arrivals()[number].acknowledge()
        await asyncio.sleep(0.3)
        send(foreign, station, 20)
        await eventually(lambda: len(station.arrivals()) == 21)
    finally:
        await link.stop()
        foreign.close()
    arrivals = station.arrivals()
    old = [arrival for arrival in arrivals if station.age_ms(arrival) > 300]
    assert len(old) > 5, "the broker held nothing back"
    assert all(arrival.trigger.held_back for arrival in old)
    assert not any(arrival.trigger.held_back for arrival in arrivals[:4]), "nothing was waiting yet"
    assert not arrivals[20].trigger.held_back, "nothing waits any more"
    assert not any(arrival.trigger.backlog for arrival in arrivals)


async def test_a_second_trigger_does_not_wait_for_the_first_to_be_acknowledged(mosquitto: Any) -> None:
    """With Nagle's algorithm on, mosquitto's default, that would be up to 40 ms."""
    station = Station()
    link = link_to(mosquitto.port, station)
    foreign = Foreign(mosquitto.port)
    link.start()
    try:
        await eventually(lambda: link.subscribed)
        for sequence in range(60):
            send(foreign, station, sequence)
            await asyncio.sleep(0.005 if sequence % 3 else 0.1)
        await eventually(lambda: len(station.arrivals()) == 60)
    finally:
        await link.stop()
        foreign.close()
    second = [station.age_ms(arrival) for arrival in station.arrivals() if arrival.trigger.sequence % 3 == 2]
    assert statistics.median(second) < 20
