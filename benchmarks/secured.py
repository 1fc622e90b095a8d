"""From the verdict to a subscriber of OPC UA, without security and signed and encrypted, in turns with one bridge."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asyncua.client.client import Client
from asyncua.crypto.cert_gen import (
    dump_private_key_as_pem,
    generate_private_key,
    generate_self_signed_app_certificate,
)
from asyncua.crypto.security_policies import SecurityPolicyAes256Sha256RsaPss
from asyncua.ua.uaerrors import UaStatusCodeError
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from benchmarks.figures import Aim, Findings, Setup, quantile, ratio_of_rounds, table
from benchmarks.load import LIMIT_S, Load
from benchmarks.pictures import Payload
from benchmarks.processes import Target, bridge, broker, free_ports

AIM = 1.5
PARTS = 40
PUBLISHING_MS = 10
TRUSTED_WITHIN_S = 10.0
_URI = "urn:linegate:benchmark"
Round = tuple[list[float], list[float]]


class _Ears:
    """Notes when each sequence was heard of, and when its part was decided."""

    def __init__(self) -> None:
        self.delays_ms: dict[int, float] = {}
        self._heard = asyncio.Event()

    async def hear(self, sequence: int) -> None:
        """Wait for one sequence."""
        while sequence not in self.delays_ms:
            self._heard.clear()
            await self._heard.wait()

    def datachange_notification(self, _node: Any, value: int, data: Any) -> None:
        """Take a notification from asyncua."""
        decided = data.monitored_item.Value.SourceTimestamp
        if decided is not None:
            moment = decided if decided.tzinfo else decided.replace(tzinfo=UTC)
            self.delays_ms[value] = (datetime.now(UTC) - moment).total_seconds() * 1e3
        self._heard.set()


def measure(setup: Setup) -> Findings:
    """Measure one bridge with both clients in turns, the small payload."""
    folder = setup.scratch / "secured"
    folder.mkdir()
    payload, parts = setup.payloads[0], PARTS // setup.shorter
    (port,) = free_ports(1)
    with (
        broker(port),
        bridge(folder, broker_port=port, bundle=setup.bundle) as (target,),
        Load(target) as load,
    ):
        rounds = asyncio.run(_rounds(load, payload, folder, parts=parts, rounds=setup.rounds))
    ratio = ratio_of_rounds(
        [statistics.median(safe) for _, safe in rounds], [statistics.median(bare) for bare, _ in rounds]
    )
    bare, safe = ([each for one in rounds for each in one[way]] for way in (0, 1))
    tail = quantile(safe, 0.99) / quantile(bare, 0.99)
    aim = Aim(
        what="verdict to OPC UA notification, signed and encrypted : without, p50 and p99",
        aim=f"{AIM:g}",
        figure=f"{ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f}) and {tail:.2f}",
        met=max(ratio[0], tail) <= AIM,
    )
    return Findings(text=section(bare, safe, ratio, rounds=len(rounds), parts=parts), aims=(aim,))


def section(
    bare: Sequence[float], safe: Sequence[float], ratio: tuple[float, float, float], *, rounds: int, parts: int
) -> str:
    """Write what was found."""
    shares = ((0.5, "p50"), (0.99, "p99"))
    rows = [
        (
            name,
            f"{quantile(bare, share):.2f}",
            f"{quantile(safe, share):.2f}",
            f"{quantile(safe, share) / quantile(bare, share):.2f}",
        )
        for share, name in shares
    ]
    return f"""## A secured OPC UA client

In ms from the verdict (SourceTimestamp) to the notification of `Result.Sequence`, publishing interval {PUBLISHING_MS} ms:

{table(("", "policy None", "Aes256Sha256RsaPss, SignAndEncrypt", "ratio"), rows)}

Medians of the rounds: {ratio[0]:.2f} (rounds {ratio[1]:.2f} to {ratio[2]:.2f}). {rounds} rounds of {parts} parts for each way in
turn, one bridge, one client at a time (asyncua). The publishing interval is most of both."""


async def _rounds(load: Load, payload: Payload, folder: Path, *, parts: int, rounds: int) -> list[Round]:
    pair = _certificate(folder)
    trusted = folder / "pki" / "trusted" / "certs" / "benchmark.der"
    trusted.write_bytes(pair[0].read_bytes())
    await _trusted(load.target, pair)
    found = []
    for number in range(rounds):
        ways: list[list[float]] = [[], []]
        for way in (0, 1) if number % 2 else (1, 0):
            ways[way] = await _delays(load, payload, parts, pair if way else None)
        found.append((ways[0], ways[1]))
    return found


async def _delays(load: Load, payload: Payload, parts: int, pair: tuple[Path, Path] | None) -> list[float]:
    client, ears = await _client(load.target, pair), _Ears()
    async with client:
        index = await client.get_namespace_index(load.target.namespace)
        subscription = await client.create_subscription(PUBLISHING_MS, ears)
        await subscription.subscribe_data_change(client.get_node(f"ns={index};s={load.target.result}.Sequence"))
        sent = []
        for _ in range(parts):
            sent.append(load.publish(payload))
            async with asyncio.timeout(LIMIT_S):
                await ears.hear(sent[-1])
            await asyncio.sleep(payload.size.interval_ms / 1e3)
    return [ears.delays_ms[each] for each in sent]


async def _client(target: Target, pair: tuple[Path, Path] | None) -> Client:
    client = Client(target.endpoint, timeout=10)
    client.application_uri = _URI
    if pair is not None:
        await client.set_security(SecurityPolicyAes256Sha256RsaPss, *pair)
    return client


async def _trusted(target: Target, pair: tuple[Path, Path]) -> None:
    """Wait until the bridge has seen the client's certificate among the trusted ones. Raises UaStatusCodeError."""
    end = time.monotonic() + TRUSTED_WITHIN_S
    while True:
        try:
            async with await _client(target, pair):
                return
        except UaStatusCodeError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.2)


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Make a client's certificate and key."""
    key = generate_private_key()
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(_URI), x509.DNSName("localhost")]
    certificate = generate_self_signed_app_certificate(
        key, "benchmark", {}, names, extended=[ExtendedKeyUsageOID.CLIENT_AUTH]
    )
    files = folder / "client.der", folder / "client.pem"
    files[0].write_bytes(certificate.public_bytes(Encoding.DER))
    files[1].write_bytes(dump_private_key_as_pem(key))
    return files
