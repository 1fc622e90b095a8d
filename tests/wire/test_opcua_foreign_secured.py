"""The OPC UA server with policies and users, as node-opcua-client sees it: a client of another maker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.foreign.node import need_node, run_node
from tests.outputs.samples import outcome
from tests.wire.opcua_clients import PASSWORD, POLICIES, STATION, SecuredBench, secured, until

pytestmark = pytest.mark.timeout(300)  # its packages may have to be installed first


async def connect(bench: SecuredBench, *connections: dict[str, Any]) -> list[dict[str, Any]]:
    """Let the other maker's client connect; as plc1 over Basic256Sha256 where nothing else is wanted."""
    usual = {
        "endpoint": bench.url,
        "policy": "Basic256Sha256",
        "mode": "SignAndEncrypt",
        "user": "plc1",
        "password": PASSWORD,
        "steps": [],
    }
    return await run_node(
        "secured.js", str(bench.folder / "node"), json.dumps([usual | each for each in connections]), limit_s=100
    )


async def introduce(bench: SecuredBench) -> None:
    """Let it be refused once, and move its certificate to the trusted ones, as an engineer does."""
    (told,) = await connect(bench, {})
    assert "rejected" in told["status"]
    rejected = bench.pki / "rejected"
    await until(lambda: bool(list(rejected.glob("*.der"))))
    (kept,) = rejected.glob("*.der")
    kept.rename(bench.pki / "trusted/certs" / kept.name)
    await until(lambda: len(bench.server._access._trust.pinned) == 2)


@pytest.mark.timeout(120)
async def test_it_comes_in_by_every_policy_and_mode_once_its_certificate_was_moved(tmp_path: Path) -> None:
    need_node()
    async with secured(tmp_path) as bench:
        bench.panel.publish(outcome(7))
        await introduce(bench)
        names = {"Basic256Sha256": "Basic256Sha256", "Aes128Sha256RsaOaep": "Aes128_Sha256_RsaOaep"}
        names["Aes256Sha256RsaPss"] = "Aes256_Sha256_RsaPss"
        told = await connect(
            bench,
            *(
                {"policy": names[policy], "mode": mode, "steps": [["read", STATION + "Result.Sequence"]]}
                for policy in POLICIES
                for mode in ("Sign", "SignAndEncrypt")
            ),
        )
    assert [(each["status"], each.get("value")) for each in told] == [("Good", None), ("Good", 7)] * 6


@pytest.mark.timeout(120)
async def test_its_users_have_their_rights(tmp_path: Path) -> None:
    need_node()
    beat, sequence = STATION + "Control.PlcHeartbeat", STATION + "Result.Sequence"
    station = "ns=2;s=line1.station1"
    async with secured(tmp_path) as bench:
        bench.panel.publish(outcome(7))
        await introduce(bench)
        told = await connect(
            bench,
            {"user": "plc1", "password": "a wrong password"},
            {"user": None, "password": None},
            {"policy": "None", "mode": "None"},
            {
                "user": "eyes",
                "steps": [
                    ["write", beat, "UInt32", 5],
                    ["call", station, STATION + "ResetCounters"],
                    ["call", station, STATION + "GetResult", "UInt32", 7],
                    ["register", beat, sequence],
                    ["browse", station],
                    ["subscribe", sequence],
                ],
            },
            {"steps": [["write", beat, "UInt32", 6], ["write", sequence, "UInt32", 6], ["read", beat]]},
        )
    refusals, (viewer, *rest) = told[:3], told[3:]
    assert "BadUserAccessDenied" in refusals[0]["status"]
    assert all(each["status"] != "Good" for each in refusals)
    assert viewer["status"] == "Good"
    found = [(each["step"], each["status"]) for each in rest]
    assert found == [
        ("write", "BadUserAccessDenied"),
        ("call", "BadUserAccessDenied"),
        ("call", "Good"),
        ("register", "Good"),
        ("browse", "Good"),
        ("subscribe", "Good"),
        ("connect", "Good"),
        ("write", "Good"),
        ("write", "BadUserAccessDenied"),
        ("read", "Good"),
    ]
    assert json.loads(rest[2]["value"][0])["sequence"] == 7
    assert (rest[3]["value"], rest[5]["value"], rest[9]["value"]) == ([0, 7], 7, 6)
    assert "Result" in rest[4]["value"]
