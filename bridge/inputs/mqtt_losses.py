"""Why the broker is lost, in words that say what to do; and which of it is worth a line in the log."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import structlog

from bridge.inputs.mqtt_client import Broker

_log = structlog.get_logger()

STEADY_S = 10.0
"""A connection that lasted this long was a good one."""
HUNG_UP = "the broker hung up"
UNANSWERED = "it hung up before it answered: a TLS port while [mqtt] tls_ca is empty, or no MQTT broker"
NO_TLS = "no TLS at this port, or too old a version: see [mqtt] port, or leave tls_ca empty"
_SHORT_LIVES = 2
_HOSTNAME_MISMATCH, _EXPIRED, _NOT_YET_VALID = 62, 10, 9
_ALERT = "ALERT"

REFUSALS: Mapping[int, str] = MappingProxyType(
    {
        1: "it speaks no MQTT 5, which Linegate needs",
        132: "it speaks no MQTT 5, which Linegate needs",
        133: "it doesn't accept our client id: allow it in the broker",
        134: "wrong user name or password: see [mqtt] username and password (or password_file)",
        135: "not authorized: see [mqtt] username and password (or password_file), and what the broker allows this user",
        136: "it is not available",
        137: "it is busy",
        138: "this client is banned: see the broker's access list",
        140: "it wants another way to log in: allow user name and password in the broker",
        149: "our last will is too large for it: raise the broker's largest packet",
        151: "a quota is used up: raise it in the broker",
        154: "it allows no retained messages, which our status needs: allow them in the broker",
        155: "it allows no QoS 1, which our messages need: allow it in the broker",
        156: "it sends us to another server: set [mqtt] host",
        157: "it has moved: set [mqtt] host",
        159: "we connect too often for it",
    }
)
"""MQTT 5.0, section 3.2.2.2, and the one code of 3.1.1 that a broker without version 5 answers with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Why a connection ended. `settled` is a cause that waiting doesn't mend: somebody has to do something."""

    reason: str
    settled: bool = False


def refused(code: int, name: str) -> Loss:
    """Put a CONNACK's reason code into words; `name` is the standard's own."""
    return Loss(reason=f"the broker refuses: {REFUSALS.get(code, name)}", settled=code not in {136, 137, 159})


def failed(exc: Exception, broker: Broker, *, answered: bool) -> Loss:
    """Put what the socket, TLS or the MQTT library raised into words; `answered` once the broker let us in."""
    place = f"{broker.host}:{broker.port}"
    if isinstance(exc, ssl.SSLCertVerificationError):
        return Loss(reason=f"TLS: {_certificate_fault(exc, broker)}", settled=True)
    if isinstance(exc, ssl.SSLError):
        if _ALERT in (exc.reason or ""):
            hint = "the broker refuses our client certificate: see [mqtt] tls_cert and tls_key"
        else:
            hint = NO_TLS
        return Loss(reason=f"TLS: {hint} ({exc.reason or exc})", settled=True)
    if isinstance(exc, socket.gaierror):
        return Loss(reason=f"the name {broker.host!r} can't be resolved: see [mqtt] host")
    if isinstance(exc, ConnectionRefusedError):
        return Loss(reason=f"nobody listens at {place}: is the broker running there?")
    if isinstance(exc, ConnectionError):
        reset = f"TLS: {NO_TLS}" if broker.tls_ca else UNANSWERED
        return Loss(reason=HUNG_UP if answered else reset)
    if isinstance(exc, TimeoutError):
        return Loss(reason=f"no answer from {place}: see [mqtt] host, the network and firewalls")
    if isinstance(exc, OSError):
        return Loss(reason=exc.strerror or str(exc) or type(exc).__name__)
    return Loss(reason=f"what it sends is not MQTT 5: see [mqtt] port ({str(exc) or type(exc).__name__})")


def _certificate_fault(exc: ssl.SSLCertVerificationError, broker: Broker) -> str:
    if exc.verify_code == _HOSTNAME_MISMATCH or "mismatch" in exc.verify_message:
        return f"the broker's certificate is not for {broker.host!r}: set [mqtt] host to a name that stands in it"
    if exc.verify_code in {_EXPIRED, _NOT_YET_VALID}:
        return f"{exc.verify_message}: renew the broker's certificate, or set this machine's clock"
    return f"[mqtt] tls_ca = {str(broker.tls_ca)!r} has not signed the broker's certificate ({exc.verify_message})"


class LossLog:
    """Tells of losses: one line on loss, one on return, and one more where somebody has to act.

    Two clients with one id throw each other out for ever. MQTT 5 has a reason code for it, but older brokers just hang
    up: so a connection that ends like that soon after it stood, and again, counts as taken over, and only the
    connection that lasts is told of.
    """

    def __init__(self, broker: Broker, *, client_id: str) -> None:
        self._broker = broker
        self._client_id = client_id
        self._lost = self._acted_on = self._rival = False
        self._short = 0
        self._resumed = False

    @property
    def rival(self) -> bool:
        """Whether another client seems to use our id: then haste would only throw it out the sooner."""
        return self._rival

    def lost(self, loss: Loss, *, stood_s: float | None, taken: bool = False) -> str:
        """Take note of an end after `stood_s` (None for a connection that never stood); gives the reason to show."""
        short = stood_s is not None and stood_s < STEADY_S and loss.reason == HUNG_UP
        self._short = self._short + 1 if short else 0
        if taken or self._short >= _SHORT_LIVES or (self._rival and stood_s is not None and loss.reason == HUNG_UP):
            return self._lost_to_rival(sure=taken)
        self._rival = False
        place = {"host": self._broker.host, "port": self._broker.port}
        if not self._lost:
            self._lost, self._acted_on = True, loss.settled
            _log.warning("mqtt_lost", **place, reason=loss.reason)
        elif loss.settled and not self._acted_on:
            self._acted_on = True
            _log.error("mqtt_refused", **place, reason=loss.reason)
        return loss.reason

    def stands(self, *, resumed: bool) -> None:
        """Take note that the broker took our subscriptions."""
        self._resumed = resumed
        if not self._rival:
            self._returned()

    def lasts(self, stood_s: float) -> None:
        """Take note that the connection has stood for so long by now."""
        if self._rival and stood_s >= STEADY_S:
            self._rival, self._short = False, 0
            self._returned()

    def _returned(self) -> None:
        self._lost = self._acted_on = False
        _log.info("mqtt_connected", host=self._broker.host, port=self._broker.port, resumed=self._resumed)

    def _lost_to_rival(self, *, sure: bool) -> str:
        uses = "uses" if sure else "seems to use"
        hint = "stop it, or give one of them another line or station name"
        reason = f"another client {uses} our client id {self._client_id}: {hint}"
        if not self._rival:
            self._rival = self._lost = True
            _log.error("mqtt_client_id_taken", host=self._broker.host, port=self._broker.port, reason=reason)
        return reason
