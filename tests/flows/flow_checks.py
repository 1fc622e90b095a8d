"""What every flow that Linegate ships keeps to, beside the linter's rules: each check gives what it found."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from typing import Any

Node = dict[str, Any]

WHOLE_REFERENCE = re.compile(r"\$\{[A-Z][A-Z0-9_]*\}")
"""Node-RED replaces a property that is one reference from end to end; it leaves `opc.tcp://${HOST}:4840` as it is."""
ADDRESSES = {
    "mqtt-broker": ("broker", "port"),
    "modbus-client": ("tcpHost", "tcpPort"),
    "OpcUa-Endpoint": ("endpoint",),
    "tls-config": ("cert", "key", "ca"),
}
SECRETS = ("credentials", "password", "passphrase", "token", "secret")
UNGROUPED = {"comment", "link in", "link out", "link call", "junction", "group", "tab", "subflow"}
MOST_LINES = 25
NODE_HEIGHT, LEAST_WIDTH, GRID, LETTER = 30, 100, 20, 6.2  # pixels, as the editor draws a node and its label


def described(nodes: list[Node]) -> list[str]:
    """A tab says what it is for."""
    tabs = [node for node in nodes if node["type"] == "tab"]
    bare = [f"tab {tab['label']!r} has no description" for tab in tabs if not str(tab.get("info", "")).strip()]
    return bare if tabs else ["no tab"]


def grouped(nodes: list[Node]) -> list[str]:
    """A node on a tab stands in a group, which says what it belongs to."""
    tabs = {node["id"] for node in nodes if node["type"] == "tab"}
    groups = {node["id"]: node for node in nodes if node["type"] == "group"}
    found = []
    for node in (node for node in nodes if node.get("z") in tabs and "x" in node):
        if node["type"] in UNGROUPED and "g" not in node:
            continue
        if node["id"] not in groups.get(node.get("g", ""), {}).get("nodes", ()):
            found.append(f"{called(node)} stands in no group")
    return found + [f"group {group['id']} has no name" for group in groups.values() if not group.get("name")]


def without_secrets(nodes: list[Node]) -> list[str]:
    """A flow holds no secret: they come from the environment or from flows_cred.json."""
    return [
        f"{called(node)} holds {key!r}" for node in nodes for key in SECRETS if node.get(key) not in (None, "", False)
    ]


def addressed_by_environment(nodes: list[Node]) -> list[str]:
    """One file serves every site: addresses are references to the environment."""
    return [
        f"{called(node)}: {key} is {node[key]!r}, not one ${{NAME}}"
        for node in nodes
        for key in ADDRESSES.get(node["type"], ())
        if node.get(key) not in (None, "") and not WHOLE_REFERENCE.fullmatch(str(node[key]))
    ]


def short_functions(nodes: list[Node]) -> list[str]:
    """A function can be read at a glance."""
    return [
        f"{called(node)}: {key} has {len(node[key].splitlines())} lines, more than {MOST_LINES}"
        for node in nodes
        for key in ("func", "initialize", "finalize")
        if node["type"] == "function" and len(str(node.get(key, "")).splitlines()) > MOST_LINES
    ]


def unique_ids(nodes: list[Node]) -> list[str]:
    """An id stands once."""
    return [
        f"id {one} stands {count} times" for one, count in Counter(node["id"] for node in nodes).items() if count > 1
    ]


def wired(nodes: list[Node]) -> list[str]:
    """A wire, a group and a parent lead to a node of the same file."""
    known = {node["id"] for node in nodes}
    found = []
    for node in nodes:
        ends = [end for port in node.get("wires", ()) for end in port]
        ends += [node[key] for key in ("z", "g") if node.get(key)]
        ends += [node["type"].removeprefix("subflow:")] if node["type"].startswith("subflow:") else []
        found += [f"{called(node)} leads to {end}, which is not in the file" for end in ends if end not in known]
    return found


def apart(nodes: list[Node]) -> list[str]:
    """No node lies over another, as far as the width of its label is known."""
    places: dict[str, list[Node]] = {}
    for node in nodes:
        if "x" in node and node["type"] not in ("group", "junction"):
            places.setdefault(node["z"], []).append(node)
    return [
        f"{called(one)} lies over {called(other)}"
        for standing in places.values()
        for one, other in combinations(standing, 2)
        if abs(one["y"] - other["y"]) < NODE_HEIGHT and abs(one["x"] - other["x"]) < (width(one) + width(other)) / 2
    ]


def width(node: Node) -> float:
    """Estimate how wide the editor draws a node, in pixels."""
    if node["type"] in ("link in", "link out") and not node.get("l"):
        return NODE_HEIGHT
    label = len(node.get("name") or node["type"]) * LETTER
    return max(LEAST_WIDTH, GRID * math.ceil((label + 50) / GRID))


def called(node: Node) -> str:
    """Name a node for a person."""
    return f"{node['type']} {node.get('name') or node.get('label') or node['id']}"


def shared_alike(flows: Mapping[str, list[Node]]) -> list[str]:
    """What stands in several files under one id, subflows above all, is the same in each: so they import together."""
    first: dict[str, tuple[str, Node]] = {}
    found = []
    for name, nodes in flows.items():
        for node in nodes:
            where, earlier = first.setdefault(node["id"], (name, node))
            if earlier != node:
                found.append(f"{called(node)} ({node['id']}) differs between {where} and {name}")
    return [*found, *_subflow_parts(flows)]


def _subflow_parts(flows: Mapping[str, list[Node]]) -> Iterable[str]:
    """Compare which nodes a shared subflow has: one that a file lacks differs from nothing."""
    first: dict[str, tuple[str, set[str]]] = {}
    for name, nodes in flows.items():
        for subflow in (node for node in nodes if node["type"] == "subflow"):
            parts = {node["id"] for node in nodes if node.get("z") == subflow["id"]}
            where, earlier = first.setdefault(subflow["id"], (name, parts))
            if earlier != parts:
                yield f"{called(subflow)} has other nodes in {where} than in {name}"


CHECKS: dict[str, Callable[[list[Node]], list[str]]] = {
    "described": described,
    "grouped": grouped,
    "without secrets": without_secrets,
    "addressed by environment": addressed_by_environment,
    "short functions": short_functions,
    "unique ids": unique_ids,
    "wired": wired,
    "apart": apart,
}
