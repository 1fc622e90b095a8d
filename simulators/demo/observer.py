"""What a plain MQTT client hears of the bridge: the demo's own ears, apart from the PLC's."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions

from simulators.evidence import IN_FLIGHT_NS, Observed, Span

TOPICS = ("verdict", "gate", "alarm", "status")


class Observer:
    """Subscribe to a station's outputs and keep what they say; `on_heard` is called on the loop, by topic."""

    def __init__(
        self, *, host: str, port: int, base: str, on_heard: Mapping[str, Callable[[Mapping[str, Any]], None]]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._base, self._on_heard = base, on_heard
        self._heard: dict[str, list[Mapping[str, Any]]] = {topic: [] for topic in TOPICS}
        self._subscribed = asyncio.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="linegate-demo-observer", protocol=MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe(
            [(f"{base}/{topic}", SubscribeOptions(qos=1)) for topic in TOPICS]
        )
        self._client.on_subscribe = lambda *_: self._on_loop(self._listening, time.monotonic_ns())
        self._client.on_disconnect = lambda *_: self._on_loop(self._lost, time.monotonic_ns())
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        self._lost_ns: int | None = None
        self._deaf: list[Span] = []
        self._client.connect_async(host, port, keepalive=30)

    async def start(self, *, within_s: float = 10.0) -> None:
        """Connect and subscribe; raises TimeoutError."""
        self._client.loop_start()
        async with asyncio.timeout(within_s):
            await self._subscribed.wait()

    def stop(self) -> None:
        """Leave the broker."""
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def sequences(self) -> set[int]:
        """The parts whose verdict was heard."""
        return {int(document["sequence"]) for document in self._heard["verdict"]}

    def observed(self) -> Observed:
        """Give all that was heard so far."""
        last: Mapping[str, Any] = next((doc for doc in reversed(self._heard["status"]) if doc.get("counters")), {})
        return Observed(
            verdicts=tuple(self._heard["verdict"]),
            gate=tuple(self._heard["gate"]),
            alarms=tuple(self._heard["alarm"]),
            counters=dict(last.get("counters") or {}),
            deaf=tuple(self._deaf),
        )

    def _listening(self, now_ns: int) -> None:
        if self._lost_ns is not None:
            self._deaf.append((self._lost_ns, now_ns))
            self._lost_ns = None
        self._subscribed.set()

    def _lost(self, now_ns: int) -> None:
        # What the broker had not handed on when it died is gone with it.
        self._lost_ns = now_ns - IN_FLIGHT_NS if self._lost_ns is None else self._lost_ns

    def _on_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        self._loop.call_soon_threadsafe(call, *arguments)

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self._on_loop(self._keep, message.topic.removeprefix(self._base + "/"), bytes(message.payload))

    def _keep(self, topic: str, payload: bytes) -> None:
        document = json.loads(payload)
        self._heard[topic].append(document)
        if (tell := self._on_heard.get(topic)) is not None:
            tell(document)
