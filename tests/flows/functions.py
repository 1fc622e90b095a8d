"""The code of function nodes, taken from the flow files and run alone in Node."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.flows.node_red import FLOWS, HERE, Node, need_node_red, read_flow


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What the function did with one message."""

    outputs: list[list[dict[str, Any]]]
    """The messages of each output, returned or sent."""
    status: list[dict[str, Any]]
    warn: list[Any]
    error: list[Any]
    """What it gave node.error, or threw."""
    log: list[Any]
    done: int

    @property
    def sent(self) -> list[dict[str, Any]]:
        """Give the messages of the first output."""
        return self.outputs[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What became of a sequence of messages: a call for each, and the stored values after the last."""

    calls: list[Call]
    flow: dict[str, Any]
    globals: dict[str, Any]
    context: dict[str, Any]

    def __getitem__(self, number: int) -> Call:
        return self.calls[number]


@dataclass(frozen=True, slots=True)
class Function:
    """One function node."""

    node: Node

    @property
    def code(self) -> str:
        return str(self.node["func"])

    def run(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        env: Mapping[str, Any] | None = None,
        flow: Mapping[str, Any] | None = None,
        globals: Mapping[str, Any] | None = None,  # noqa: A002
        context: Mapping[str, Any] | None = None,
        now_ms: Sequence[float] | None = None,
        settle_ms: int = 0,
    ) -> Run:
        """Run it on these messages, one after another; `now_ms` stands for the clock, `settle_ms` waits for its timers.

        A buffer is {"type": "Buffer", "data": [...]}, in and out. A value that is undefined in JavaScript is absent.
        """
        assert now_ms is None or len(now_ms) == len(messages)
        clock: Sequence[float | None] = [None] * len(messages) if now_ms is None else now_ms
        calls = [{"msg": message, "now_ms": now} for message, now in zip(messages, clock, strict=True)]
        task = {
            "node": self.node, "calls": calls, "settle_ms": settle_ms,
            "env": env or {}, "flow": flow or {}, "global": globals or {}, "context": context or {},
        }  # fmt: skip
        command = [need_node_red(), HERE / "run_function.js", FLOWS / "node_modules" / "@node-red" / "util"]
        done = subprocess.run(command, input=json.dumps(task), capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        answer = json.loads(done.stdout)
        return Run(
            calls=[Call(**call) for call in answer["calls"]], flow=answer["flow"], globals=answer["global"],
            context=answer["context"],
        )  # fmt: skip


def function_of(flow: str | Path | list[Node], name: str, *, within: str | None = None) -> Function:
    """Take a function node by its name; `within` names the tab or the subflow where two are called alike."""
    nodes = flow if isinstance(flow, list) else read_flow(flow)
    places = {node["id"] for node in nodes if within in (None, node.get("label"), node.get("name"))}
    found = [
        node
        for node in nodes
        if node["type"] == "function" and node.get("name") == name and (within is None or node["z"] in places)
    ]
    assert len(found) == 1, f"{len(found)} functions are called {name!r}"
    return Function(found[0])
