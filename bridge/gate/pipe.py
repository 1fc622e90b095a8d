"""What goes through the pipe between the bridge and its gate process: one JSON array a line, both directions.

    to the process      ["reject" | "release", epoch, sequence, due_ns | null, off_ns | null]     an order, or as it is now
                        ["withdraw", epoch, sequence]                                            forget both of a part
    from the process    [event, [[epoch, sequence], ...], error_ms | null, text]

Moments are monotonic ns, which all processes of a machine share; null while the belt stands.
"""

from __future__ import annotations

import json

from bridge.domain.gate_drive import GateCall
from bridge.domain.messages import GateNews


def encode_call(call: GateCall) -> bytes:
    """Give the line that tells the process of a call."""
    moments = [] if call.kind == "withdraw" else [call.due_ns, call.off_ns]
    return json.dumps([call.kind, *call.key, *moments], separators=(",", ":")).encode() + b"\n"


def decode_call(line: bytes) -> GateCall:
    """Read what `encode_call` wrote."""
    kind, epoch, sequence, *moments = json.loads(line)
    due_ns, off_ns = moments or (None, None)
    return GateCall(kind=kind, key=(epoch, sequence), due_ns=due_ns, off_ns=off_ns)


def encode_news(news: GateNews) -> bytes:
    """Give the line that tells the bridge of an event."""
    return json.dumps([news.event, news.keys, news.error_ms, news.text], separators=(",", ":")).encode() + b"\n"


def decode_news(line: bytes) -> GateNews:
    """Read what `encode_news` wrote."""
    event, keys, error_ms, text = json.loads(line)
    return GateNews(
        event=event, keys=tuple((epoch, sequence) for epoch, sequence in keys), error_ms=error_ms, text=text
    )
