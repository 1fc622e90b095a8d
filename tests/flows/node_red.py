"""A real Node-RED on a free port and an empty folder, driven as its editor drives it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.cli.processes import eventually
from tests.foreign.node import installed
from tests.ports import free_ports

HERE = Path(__file__).parent
FLOWS = HERE.parent.parent / "flows"
OUR_NODES = FLOWS / "node-red-contrib-linegate"
START_S, DEPLOY_S = 60.0, 30.0
STRUCTURE = {"tab", "group", "subflow", "junction", "global-config"}
ERROR_LEVEL, WARN_LEVEL = 20, 30
V2 = {"Node-RED-API-Version": "v2"}

Node = dict[str, Any]


def need_node_red() -> str:
    """Give the path of node, the packages of flows/package.json installed; skips the test where there is no Node."""
    return installed(FLOWS)


def flow_path(name: str | Path) -> Path:
    """Give the file of a flow: a bare name is one of flows/."""
    return FLOWS / name if Path(name).parent == Path() else Path(name)


def read_flow(name: str | Path) -> list[Node]:
    """Read the nodes of a flow file."""
    nodes: list[Node] = json.loads(flow_path(name).read_text())
    return nodes


def merged(flows: Sequence[list[Node]], environment: Collection[str] = ()) -> list[Node]:
    """Put several flows into one; a node that stands in more than one of them, the same in each, is taken once.

    Global variables that are named in `environment` are left out: the process's then hold.
    """
    found: dict[str, Node] = {}
    for node in (node for flow in flows for node in flow):
        earlier = found.setdefault(node["id"], node)
        assert earlier == node, f"two different nodes have the id {node['id']}: {earlier} and {node}"
    return [_without(node, environment) if node["type"] == "global-config" else node for node in found.values()]


def _without(settings: Node, names: Collection[str]) -> Node:
    return {**settings, "env": [each for each in settings["env"] if each["name"] not in names]}


@dataclass(kw_only=True)
class NodeRed:
    """One running Node-RED; nodes are named by their id or their name."""

    folder: Path
    port: int
    environment: Mapping[str, str]
    deployed: list[Node] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "node-red.log").read_text(errors="replace")

    def launch(self) -> None:
        """Start its process."""
        node = need_node_red()
        plain = {name: text for name, text in os.environ.items() if not name.startswith(("LINEGATE_", "NODE_RED_"))}
        environment = {**plain, "LINEGATE_FLOWS_PORT": str(self.port), **self.environment}
        command = [node, FLOWS / "node_modules" / "node-red" / "red.js", "-u", self.folder, "-s", FLOWS / "settings.js"]
        with (self.folder / "node-red.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)
        self.client = httpx.Client(base_url=self.url, timeout=DEPLOY_S, trust_env=False)

    def start(self) -> None:
        """Start it and wait until its editor and its nodes are there."""
        self.launch()
        eventually(self._up, START_S)
        ws, comms = FLOWS / "node_modules" / "ws", f"ws://127.0.0.1:{self.port}/comms"
        with (self.folder / "comms.jsonl").open("wb") as told, (self.folder / "comms.log").open("wb") as log:
            self.listener = subprocess.Popen([need_node_red(), HERE / "comms.js", ws, comms], stdout=told, stderr=log)
        eventually(lambda: any(one["topic"] == "open" for one in self.told()))

    def _up(self) -> bool:
        assert self.process.poll() is None, f"Node-RED ended with {self.process.poll()}: {self.log}"
        time.sleep(0.1)
        with contextlib.suppress(httpx.TransportError):
            return "Started flows" in self.log and self.client.get("/flows/state").status_code == 200
        return False

    def nodes(self) -> list[dict[str, Any]]:
        """Give the sets of nodes that it loaded; one that failed has an `err`."""
        answer = self.client.get("/nodes", headers={"Accept": "application/json"})
        assert answer.status_code == 200, answer.text
        sets: list[dict[str, Any]] = answer.json()
        return sets

    def import_flow(
        self, *flows: str | Path | list[Node], credentials: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        """Deploy these flows, and nothing else; waits until they started. `credentials` are of a node: {"user": ...}."""
        nodes = merged([flow if isinstance(flow, list) else read_flow(flow) for flow in flows], self.environment)
        secrets = {self._id(name, nodes): dict(values) for name, values in (credentials or {}).items()}
        full = [{**node, "credentials": secrets[node["id"]]} if node["id"] in secrets else node for node in nodes]
        starts = self.log.count("Started ")
        headers = {**V2, "Node-RED-Deployment-Type": "full"}
        answer = self.client.post("/flows", json={"flows": full}, headers=headers)
        assert answer.status_code == 200, answer.text
        self.deployed = nodes
        if not self.missing():
            eventually(lambda: self.log.count("Started ") > starts, DEPLOY_S)

    def state(self) -> str:
        """Tell whether the flows run: `start`, `stop` or `safe`."""
        return str(self.client.get("/flows/state").json()["state"])

    def inject(self, node: str, **properties: Any) -> None:
        """Press an inject node's button; `properties` (payload=..., topic=...) replace those that it has."""
        given = [{"p": name, "v": json.dumps(value), "vt": "json"} for name, value in properties.items()]
        body = {"__user_inject_props__": given} if given else {}
        answer = self.client.post(f"/inject/{self._id(node, self.deployed)}", json=body)
        assert answer.status_code == 200, f"inject {node}: {answer.status_code} {answer.text}"

    def _id(self, name: str, nodes: list[Node]) -> str:
        found = [node["id"] for node in nodes if name in (node["id"], node.get("name"))]
        assert len(found) == 1, f"{len(found)} nodes are called {name!r}"
        return str(found[0])

    def _name(self, node_id: str) -> str:
        """Give a node's name, else its id; the nodes within a subflow's instance have ids that no file knows."""
        return next((node.get("name") or node_id for node in self.deployed if node["id"] == node_id), node_id)

    def told(self) -> list[dict[str, Any]]:
        """Give what the editor was told since the start, in order: {"topic": ..., "data": ...}."""
        lines = (self.folder / "comms.jsonl").read_text(errors="replace").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def statuses(self) -> dict[str, dict[str, Any]]:
        """Give the present status of each node that shows one, by its name: {"fill": "red", "shape": ..., "text": ...}."""
        last = {
            one["topic"].removeprefix("status/"): one["data"]
            for one in self.told()
            if one["topic"].startswith("status/")
        }
        return {self._name(node_id): status for node_id, status in last.items() if status}

    def debug(self, node: str | None = None) -> list[Any]:
        """Give what debug nodes showed (one of them, or all): parsed where it is an object, else as text."""
        wanted = None if node is None else self._id(node, self.deployed)
        shown = [one["data"] for one in self.told() if one["topic"] == "debug" and "level" not in one["data"]]
        return [_value(data) for data in shown if wanted in (None, data["id"], data.get("_alias"))]

    def errors(self, *, warnings: bool = False) -> list[str]:
        """Give the errors of nodes that no catch node took, as `name: text`; with the warnings if wanted."""
        limit = WARN_LEVEL if warnings else ERROR_LEVEL
        shown = [
            one["data"] for one in self.told() if one["topic"] == "debug" and one["data"].get("level", 99) <= limit
        ]
        return [f"{data.get('name') or self._name(data.get('id', ''))}: {data['msg']}" for data in shown]

    def missing(self) -> list[str]:
        """Give the types of deployed nodes that this Node-RED has no code for."""
        known = {type_ for one in self.nodes() if one["enabled"] and "err" not in one for type_ in one["types"]}
        types = {node["type"] for node in self.deployed if not node["type"].startswith("subflow:")}
        return sorted(types - known - STRUCTURE)

    def problems(self) -> list[str]:
        """Give all that is wrong now: sets that failed to load, missing types, flows that stand, red nodes, errors."""
        found = [f"{one['id']}: {one['err']}" for one in self.nodes() if one.get("err")]
        found += [f"missing type: {type_}" for type_ in self.missing()]
        found += [f"flows: {self.state()}"] if self.state() != "start" else []
        found += [f"{name}: {status}" for name, status in self.statuses().items() if status.get("fill") == "red"]
        return found + self.errors()

    def memory(self) -> int:
        """Give the memory that it holds (RSS), in bytes."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))

    def stop(self) -> None:
        """End it and the listener; may be called twice."""
        for process in (self.process, getattr(self, "listener", None)):
            if process is None or process.poll() is not None:
                continue
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        self.client.close()


def _value(data: Mapping[str, Any]) -> Any:
    """Give a debug message's value; objects and arrays come as JSON, numbers and truth values as text with a format."""
    text = data.get("msg")
    if data.get("format", "").startswith(("Object", "array", "number", "boolean", "buffer")):
        with contextlib.suppress(TypeError, ValueError):
            return json.loads(text)  # type: ignore[arg-type]
    return text


@contextlib.contextmanager
def node_red(
    folder: Path,
    *,
    flows: Sequence[str | Path | list[Node]] = (),
    environment: Mapping[str, str] | None = None,
    credentials: Mapping[str, Mapping[str, str]] | None = None,
) -> Iterator[NodeRed]:
    """Run a Node-RED with the shipped settings and these flows; `environment` is what `${NAME}` in them refers to."""
    home = folder / "node-red"
    (home / "node_modules").mkdir(parents=True)
    if OUR_NODES.is_dir():
        (home / "node_modules" / OUR_NODES.name).symlink_to(OUR_NODES)
    (port,) = free_ports(1)
    red = NodeRed(folder=home, port=port, environment=environment or {})
    try:
        red.start()
        if flows:
            red.import_flow(*flows, credentials=credentials)
        yield red
    finally:
        if hasattr(red, "process"):
            red.stop()
