"""Verdicts, gate reports, status and alarms on MQTT, for people, flows and databases; nothing may actuate from them."""

from __future__ import annotations

import time
from typing import Protocol

from bridge.domain.gate import GateOrder
from bridge.domain.part import ReplyTo, Result
from bridge.domain.report import (
    Document,
    alarm_document,
    deployed_document,
    encode,
    gate_report_document,
    model_document,
    status_document,
)
from bridge.domain.status import StationStatus
from bridge.ports import Alarm, GateEvent, Outcome

STATUS_PERIOD_NS = 200_000_000
"""Counters and heartbeat alone are shown at most this often; any other change of status at once."""


class Publisher(Protocol):
    """The way to the broker. No call blocks or raises; messages arrive in the order of the calls."""

    def publish(self, suffix: str, payload: str, *, retain: bool = False) -> None:
        """Publish on a topic below the station's root."""

    def answer(self, reply: ReplyTo, payload: str) -> None:
        """Publish on a sender's response topic, with its correlation data."""


class MqttVerdictOutput:
    """Publishes a station's verdicts, in the order of the triggers, and all that it says of itself."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._shown: StationStatus | None = None
        self._shown_ns = 0
        self._model: Document | None = None

    def captured(self, sequence: int, at_utc_ns: int) -> None:
        """Publish nothing: the verdict's document has the moment."""

    def publish(self, outcome: Outcome) -> None:
        """Publish the verdict, a replayed one too, and also to the sender who asked for it."""
        self._publisher.publish("verdict", outcome.document)
        reply = outcome.result.part.trigger.reply
        if reply is not None:
            self._publisher.answer(reply, outcome.document)

    def remember(self, sequence: int, document: str) -> None:
        """Leave verdicts of an earlier run alone: MQTT keeps no history, the records do."""

    def revise(self, sequence: int, order: GateOrder) -> None:
        """Leave a changed moment alone: a published verdict stands, and nothing may time a gate from MQTT."""

    def show(self, status: StationStatus) -> None:
        """Publish the retained status, and the model when it changed."""
        now_ns = time.monotonic_ns()
        if (
            self._shown is None
            or _telling(status) != _telling(self._shown)
            or now_ns - self._shown_ns >= STATUS_PERIOD_NS
        ):
            self._shown, self._shown_ns = status, now_ns
            self._publisher.publish("status", encode(status_document(status)), retain=True)
        active = deployed_document(status.model, sha256=status.model_sha256) if status.model else None
        self.show_model(model_document(active))

    def show_model(self, document: Document) -> None:
        """Publish the retained state of the bundles, when it changed."""
        if document != self._model:
            self._model = document
            self._publisher.publish("model", encode(document), retain=True)

    def alarm(self, alarm: Alarm) -> None:
        """Publish an alarm raised or cleared."""
        document = alarm_document(alarm.kind, raised=alarm.raised, text=alarm.text, at_utc_ns=alarm.at_utc_ns)
        self._publisher.publish("alarm", encode(document))

    def gate_report(
        self, event: GateEvent, result: Result, order: GateOrder, reason: str | None, error_ms: float | None = None
    ) -> None:
        """Publish what became of a gate order, with the measured firing error where there is one."""
        document = gate_report_document(event, result, order, error_ms=error_ms, reason=reason)
        self._publisher.publish("gate", encode(document))


def _telling(status: StationStatus) -> tuple[object, ...]:
    """Give what a reader has to learn at once: everything but counters, heartbeat and speed."""
    return (
        status.state, status.online, status.ready, status.error, status.recipe_ok, status.degraded, status.stop_request,
        status.plc_heartbeat_lost, status.gate_unguarded, status.clock_ok, status.error_code, status.error_text,
        status.recipe, status.model, status.not_ready, status.inhibited, status.dry_run, status.challenge,
        status.alarms, status.recipes,
    )  # fmt: skip
