"""docker-compose.yml without an engine: each service's own command, environment and files, as processes on loopback.

What is replaced is only what an engine provides: names of services and 0.0.0.0 become 127.0.0.1, ports of containers
become free ones, folders, mounted files and secrets in containers become those here, and the programs `linegate`,
`python`, `node`, `mosquitto` and `prometheus` are those of this machine.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cli.processes import LINEGATE, environment
from tests.ports import free_ports

ROOT = Path(__file__).parents[2]
CONTAINER_PORTS = (1883, 502, 4840, 9464, 5021, 8883, 802, 5432, 9090, 1880)
SBIN = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"


def interpolated(text: str, environment: Mapping[str, str]) -> str:
    """Fill in `${NAME:-default}` and `$$` as Compose does."""

    def fill(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else environment.get(found["name"]) or found["default"]

    return re.sub(r"\$\$|\$\{(?P<name>\w+):-(?P<default>[^}]*)\}", fill, text)


def compose_file(**settings: str) -> dict[str, Any]:
    """Read docker-compose.yml with these settings in the environment."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.safe_load(interpolated(text, settings))
    return document


def services_of(document: dict[str, Any], profile: str) -> dict[str, dict[str, Any]]:
    """Give the services that a profile starts."""
    services: dict[str, dict[str, Any]] = document["services"]
    return {name: service for name, service in services.items() if profile in service["profiles"]}


def program_here(name: str) -> str:
    """Find a server's program on this machine."""
    found = shutil.which(name, path=SBIN)
    assert found is not None, f"{name} is not installed: apt-get install mosquitto mosquitto-clients prometheus"
    return found


def user_here() -> str:
    return subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()


@dataclass(frozen=True, kw_only=True)
class Image:
    """What the last stage of the Dockerfile says of its containers, and which files of ours every stage copies."""

    environment: dict[str, str]
    entrypoint: list[str]
    command: list[str]
    healthcheck: list[str]
    user: str
    bases: list[str]
    copied: list[str]
    runs: list[str]


def read_dockerfile(path: Path = ROOT / "Dockerfile") -> Image:
    """Read the instructions that matter to a container."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    instructions = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    named: dict[str, list[str]] = {}
    for name, rest in instructions:
        named.setdefault(name, []).append(rest)
    last_stage = [rest for name, rest in instructions[[i for i, (n, _) in enumerate(instructions) if n == "FROM"][-1] :]
                  if name == "ENV"]  # fmt: skip
    return Image(
        environment=dict(word.split("=", 1) for rest in last_stage for word in shlex.split(rest)),
        entrypoint=json.loads(named["ENTRYPOINT"][-1]),
        command=json.loads(named["CMD"][-1]),
        healthcheck=json.loads(named["HEALTHCHECK"][-1].split("CMD", 1)[1]),
        user=named["USER"][-1],
        bases=[rest.split()[0] for rest in named["FROM"]],
        copied=[word for rest in named["COPY"] if "--from" not in rest for word in rest.split()[:-1]],
        runs=named["RUN"],
    )


class Containers:
    """The services of one profile, each a process that keeps its volumes and its log in `folder`.

    With `names_known` False the services' names can't be resolved, as in a network where they have not started yet.
    """

    def __init__(self, folder: Path, *, names_known: bool = True, profile: str = "demo") -> None:
        self.folder, self._names_known = folder, names_known
        self.ports = dict(zip(CONTAINER_PORTS, free_ports(len(CONTAINER_PORTS)), strict=True))
        self.home = folder / "home"
        self.home.mkdir()
        self.document = compose_file()
        self.services = services_of(self.document, profile)
        self.image = read_dockerfile()
        self.flows_image = read_dockerfile(ROOT / "docker" / "node-red" / "Dockerfile")
        self.secrets = folder / "secrets"
        self.settings: dict[str, dict[str, str]] = {}
        """By service, what a test adds to its environment."""
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def host(self, service: str) -> str:
        """Give where a service is to be found."""
        return "127.0.0.1" if self._names_known else f"{service}.invalid"

    def places(self, service: str) -> dict[str, Path]:
        """Give by each path that a container has from outside where it is here."""
        places = {"/run/secrets": self.secrets}
        for volume in self.services[service].get("volumes", []):
            source, target = volume.split(":")[:2]
            places[target] = self.mounted(service, target) if source.startswith("./") else self.folder / source
        return places

    def mounted(self, service: str, target: str) -> Path:
        """Give where the copy of a mounted file or folder lies; `start` makes it."""
        return self.folder / "mounted" / service / target.lstrip("/")

    def local(self, text: str, service: str) -> str:
        """Put addresses, ports and folders of this machine in the place of the containers'."""
        names = "|".join(sorted(self.services, key=len, reverse=True))
        text = re.sub(
            rf"(?<=[/@'\"])({names})(?=:\d)|(?<=\(')({names})(?=')",
            lambda found: self.host(found[0]),
            text,
        )
        text = text.replace("0.0.0.0", "127.0.0.1")
        text = re.sub(
            rf"\b({'|'.join(map(str, CONTAINER_PORTS))})\b", lambda found: str(self.ports[int(found[0])]), text
        )
        places = self.places(service)
        targets = "|".join(re.escape(target) for target in sorted(places, key=len, reverse=True))
        return re.sub(rf"(?<![\w.-])({targets})(?![\w.-])", lambda found: str(places[found[0]]), text)

    def _mount(self, service: str) -> None:
        """Copy what is mounted, with this machine's addresses in it; volumes keep what they held."""
        for volume in self.services[service].get("volumes", []):
            source, target = volume.split(":")[:2]
            if not source.startswith("./"):
                (self.folder / source).mkdir(exist_ok=True)
                continue
            root, copy = ROOT / source, self.mounted(service, target)
            for file in [root] if root.is_file() else root.rglob("*"):
                if file.is_file():
                    at = copy / file.relative_to(root) if root.is_dir() else copy
                    at.parent.mkdir(parents=True, exist_ok=True)
                    at.write_text(self.local(file.read_text(encoding="utf-8"), service), encoding="utf-8")

    def command(self, service: str) -> list[str]:
        """Give a service's entry point and command for this machine."""
        image = self.services[service]["image"]
        words = list(self.services[service].get("command", []))
        for place, word in enumerate(words):
            if word.endswith("-host") and words[place + 1] in self.services:
                words[place + 1] = self.host(words[place + 1])
        words = [self.local(word, service) for word in words]
        if image == "linegate:local":
            assert self.image.entrypoint == ["linegate"]
            return [*LINEGATE, *words]
        if image == "linegate-flows:local":
            program, script = self.flows_image.entrypoint
            return [program, script.replace("/opt/linegate", str(ROOT))]
        if image.startswith("prom/prometheus"):
            return [program_here("prometheus"), *words]
        return [program_here(Path(words[0]).name), "-c", str(self._localized_mosquitto(service))]

    def _localized_mosquitto(self, service: str) -> Path:
        """Let the mounted mosquitto.conf listen on the loopback; root would else give up its rights to the folder."""
        path = self.mounted(service, "/mosquitto/config/mosquitto.conf")
        text, listeners = re.subn(r"(?m)^listener (\d+)$", r"listener \1 127.0.0.1", path.read_text(encoding="utf-8"))
        assert listeners == 1
        path.write_text(f"{text}\nuser {user_here()}\nlog_type debug\n", encoding="utf-8")
        return path

    def environment(self, service: str) -> dict[str, str]:
        """Give the image's environment and the service's over it, for this machine."""
        images = {"linegate:local": self.image, "linegate-flows:local": self.flows_image}
        image = images.get(self.services[service]["image"])
        ours = {name: value for name, value in image.environment.items() if name != "PATH"} if image else {}
        if service in ("bridge", "bridge-production", "conveyor", "plc"):
            ours["HOME"] = str(self.home)
        ours |= self.services[service].get("environment", {})
        for name, value in ours.items():
            is_host = name.endswith("_HOST") and value in self.services
            ours[name] = self.host(value) if is_host else self.local(value, service)
        if image is self.flows_image:
            ours["LINEGATE_FLOWS_FOLDER"] = str(ROOT / "flows")
            ours["LINEGATE_FLOWS_PORT"] = str(self.ports[1880])
        return environment() | ours | self.settings.get(service, {})

    def start(self, *services: str) -> None:
        """Start services in this order; volumes keep what they held."""
        for service in services:
            self._mount(service)
            with (self.folder / f"{service}.log").open("ab") as log:
                self.processes[service] = subprocess.Popen(
                    self.command(service), cwd=self.folder, env=self.environment(service), stdout=log, stderr=log
                )

    def healthy(self, service: str) -> bool:
        """Run a service's own health check once."""
        kind, *words = self.services[service]["healthcheck"]["test"]
        assert kind == "CMD"
        return self.check(words, service)

    def check(self, words: list[str], service: str) -> bool:
        """Run a health check's command once, with the time that Compose would give it."""
        words = [self.local(word, service) for word in words]
        if words[0] == "python":
            words[0] = sys.executable
        done = subprocess.run(words, env=self.environment(service), capture_output=True, timeout=20, check=False)
        return done.returncode == 0

    def running(self, service: str) -> bool:
        return self.processes[service].poll() is None

    def log(self, service: str) -> str:
        return (self.folder / f"{service}.log").read_text(errors="replace")

    def stop(self, service: str) -> int:
        """End one as Compose does: SIGTERM, and SIGKILL after the grace period. Gives the exit code."""
        process = self.processes[service]
        process.send_signal(signal.SIGTERM)
        grace_s = float(self.services[service]["stop_grace_period"].removesuffix("s"))
        return process.wait(grace_s)

    def kill(self, service: str) -> None:
        process = self.processes[service]
        if process.poll() is None:
            process.kill()
            process.wait(10)


@contextlib.contextmanager
def containers(folder: Path, *, names_known: bool = True, profile: str = "demo") -> Iterator[Containers]:
    """Offer the services of a profile, and leave none behind."""
    line = Containers(folder, names_known=names_known, profile=profile)
    try:
        yield line
    finally:
        for service in line.processes:
            line.kill(service)


def localized_mosquitto(folder: Path, port: int) -> Path:
    """Write the shipped mosquitto.conf with another port and folder; root would else give up its rights to the folder."""
    data = folder / "mosquitto-data"
    data.mkdir(exist_ok=True)
    text = (ROOT / "docker" / "mosquitto.conf").read_text(encoding="utf-8")
    for shipped, here in {
        "\nlistener 1883\n": f"\nlistener {port} 127.0.0.1\n",
        "\npersistence_location /mosquitto/data/\n": f"\npersistence_location {data}/\n",
    }.items():
        assert text.count(shipped) == 1
        text = text.replace(shipped, here)
    path = folder / "mosquitto.conf"
    path.write_text(f"{text}user {user_here()}\n", encoding="utf-8")
    return path
