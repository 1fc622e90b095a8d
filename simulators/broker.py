"""The demo's MQTT broker: `python -P -m simulators.broker --port 1883`. For trying things out, not for production.

It speaks MQTT 5 alone, keeps nothing over its own restart, and ends with its parent.
"""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import iotcore

from simulators.process import die_with_parent, say

SETTINGS = """\
id = 0

[router]
id = 0
max_connections = 200
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10

[v5.1]
name = "v5-1"
listen = "{host}:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 16777216
max_inflight_count = 200
dynamic_filters = true
"""


def parser() -> argparse.ArgumentParser:
    """Make the command line."""
    options = argparse.ArgumentParser(prog="linegate simulate broker", description="Run a small MQTT 5 broker.")
    options.add_argument("--host", default="127.0.0.1", help="address to listen on [127.0.0.1]")
    options.add_argument("--port", type=int, default=1883, help="TCP port [1883]")
    options.add_argument("--parent", type=int, help="process id to die with")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until stopped; gives the exit code, 1 when the port can't be opened."""
    options = parser().parse_args(arguments)
    die_with_parent(options.parent)
    try:
        with socket.create_server((options.host, options.port)) as probe:
            port = probe.getsockname()[1]
    except OSError as exc:
        sys.stderr.write(f"broker: port {options.port} on {options.host} can't be opened: {exc.strerror}\n")
        return 1
    # The broker traces every packet as an error record.
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with tempfile.TemporaryDirectory(prefix="linegate-broker-") as folder:
        settings = Path(folder) / "broker.toml"
        settings.write_text(SETTINGS.format(host=options.host, port=port), encoding="utf-8")
        broker = iotcore.Broker(config_path=str(settings))
    say("ready", port=port)
    broker.run_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
