"""A PostgreSQL server of the tests' own: Debian's binaries, a temporary folder, an unprivileged user."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.ports import free_ports

ADMIN, USER = "postgres", "linegate"
PASSWORD = "sw:rd/f@sh"


def binaries() -> Path | None:
    """Give the folder of the newest server installed, None without one."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    return max(found, key=lambda path: int(path.parent.name)) if found else None


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a server of the caller's own; a test without one installed skips."""
    folder = binaries()
    if folder is None:
        pytest.skip("no PostgreSQL server here: apt-get install --no-install-recommends postgresql")
    server = PostgresServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.close()


class PostgresServer:
    """One server on a port of its own, by password; `kill` is a crash, `start` its recovery."""

    def __init__(self, bin_folder: Path) -> None:
        self._bin = bin_folder
        self._folder = Path(tempfile.mkdtemp(prefix="linegate-pg-"))
        (self.port,) = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:  # it refuses to run as root, as tests in a container mostly do
            shutil.chown(self._folder, self._user)
        password = self._folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run("initdb", "-D", str(self.data), "-U", ADMIN, "-A", "scram-sha-256", f"--pwfile={password}", "-N",
                  "--locale=C.UTF-8", "-E", "UTF8")  # fmt: skip

    @property
    def data(self) -> Path:
        return self._folder / "data"

    def url(self, database: str) -> str:
        """Give the URL of a database, by TCP and without a password."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=ADMIN, password=PASSWORD, dbname=database, autocommit=True
        )

    def make_database(self, name: str) -> None:
        """Make a database that belongs to an ordinary user, by whom the record is written."""
        with self.connect() as connection:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [USER]).fetchone():
                connection.execute(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
            connection.execute(f'CREATE DATABASE "{name}" OWNER {USER}')  # type: ignore[call-overload]

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        with self.connect() as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')  # type: ignore[call-overload]

    def start(self) -> None:
        # No walwriter to speak of: what a flush has not brought to the disk is lost in a crash, for certain.
        options = ["-c", "max_connections=40", "-c", "shared_buffers=16MB", "-c", "wal_writer_delay=10s"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self.data, "-p", str(self.port), "-k", self._folder, *options],
                stdout=subprocess.DEVNULL,
                stderr=log,
                user=self._user,
                cwd=self._folder,
            )
        until = time.monotonic() + 20
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                assert time.monotonic() < until, (self._folder / "log").read_text()
                time.sleep(0.02)
            else:
                return

    def crash(self) -> None:
        """End it as a crash of the machine's memory would: nothing is written any more, all in its memory is lost."""
        self.signal(signal.SIGQUIT)
        assert self._process is not None
        self._process.wait(10)

    def signal(self, number: signal.Signals) -> None:
        """Send the server's first process a signal."""
        os.kill(self._pid(), number)

    def signal_all(self, number: signal.Signals) -> None:
        """Send every process of the server a signal."""
        children = Path(f"/proc/{self._pid()}/task/{self._pid()}/children").read_text().split()
        for pid in (self._pid(), *map(int, children)):
            os.kill(pid, number)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.signal_all(signal.SIGCONT)
            self.crash()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _pid(self) -> int:
        return int((self.data / "postmaster.pid").read_text().splitlines()[0])

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._bin / program, *arguments],
            user=self._user,
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=25,
            check=False,
        )
        assert done.returncode == 0, done.stderr
