"""The process that holds a model: `python -P -m bridge.inference.child PARENT FILE NAME`, as the worker starts it.

PARENT is the bridge's process id, FILE the descriptor of the file with the picture, NAME for people who look at the list
of processes; its standard input is the socket to the bridge. It answers one request after the other and has no clock, no
thread and no state of its own: it can be killed at any moment. It ends with the bridge, however that ends, and by nothing
else: the signals that a terminal or a service manager sends to the whole group are the bridge's to act on.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

PR_SET_PDEATHSIG = 1


def main(arguments: Sequence[str]) -> None:
    """Serve one model until the bridge closes the socket."""
    _die_with(int(arguments[0]))
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    with socket.socket(fileno=0) as link:
        _serve(link, int(arguments[1]))
        sys.stderr.flush()
        os._exit(0)  # nothing is worth the time that the libraries take to tidy up


def _die_with(parent: int) -> None:
    """Ask Linux to kill this process when the bridge ends, even while native code runs; elsewhere the socket tells."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _serve(link: socket.socket, file: int) -> None:
    # imported here, for it takes longer than a bridge may be outlived
    from bridge.errors import BridgeError  # noqa: PLC0415
    from bridge.inference.exchange import PictureRoom, Ping, Pong, Ready, pack, receive  # noqa: PLC0415
    from bridge.inference.model import OnnxModel  # noqa: PLC0415

    room = PictureRoom(file)
    if (settings := receive(link)) is None:
        return
    try:
        model = OnnxModel(settings)
    except BridgeError as exc:
        link.sendall(pack(exc))
        return
    gc.collect()
    gc.freeze()
    link.sendall(
        pack(
            Ready(
                reference=model.bundle.reference,
                sha256=model.bundle.sha256,
                golden_deviation=model.golden_deviation,
                usual_s=model.usual_s,
            )
        )
    )
    answer: Any
    while (request := receive(link)) is not None:
        try:
            if isinstance(request, Ping):
                if request.run:
                    model.keep_warm()
                answer = Pong()
            else:
                picture = room.take(request.length)
                answer = model.score(
                    picture,
                    thresholds=request.thresholds,
                    roi=request.roi,
                    reduction=request.reduction,
                    ours=request.ours,
                )
        except BridgeError as exc:
            answer = exc
        link.sendall(pack(answer))


if __name__ == "__main__":
    main(sys.argv[1:])
