"""A camera that answers a GET with a snapshot: asked at each part, and looked after in between."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import httpx

from bridge.domain.part import Part
from bridge.errors import CameraError, ConfigError
from bridge.inputs.cameras.picture_format import media_type_of
from bridge.ports import Frame

LOOK_S = 1.0
LOOK_LIMIT_S = 0.6
LOOK_AGAIN_S = 0.2
FAILURES = 2
"""So many failures in a row, of parts or looks, are a loss: one alone may be the camera's hiccup."""
_REDIRECTS = 3
_LABELS = frozenset({"image/jpeg", "image/jpg", "image/pjpeg", "image/png"})
_REFUSED = {401: "log-in refused: check username, password_file and auth", 403: "no right to this picture"}


class _BadAnswerError(CameraError):
    """The camera is there, but what it answers is no picture."""


class HttpCamera:
    """Fetch a snapshot of at most `max_bytes` for each part, whole within `timeout_ms`.

    It is asked for `max_late_ms` after the part's moment at the latest: then another part may be in the picture.

    When no part came for 1 s it is asked by HEAD whether it is there, by GET where HEAD doesn't work or something is
    wrong. Redirects lead to other paths of the same host, never elsewhere: the log-in would go with them.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_ms: float,
        max_late_ms: float,
        max_bytes: int,
        username: str = "",
        password: str = "",
        auth: Literal["digest", "basic"] = "digest",
        tls_ca: Path | None = None,
    ) -> None:
        self._url = url
        self._timeout_ms = timeout_ms
        self._max_late_ms = max_late_ms
        self._max_bytes = max_bytes
        kind = httpx.DigestAuth if auth == "digest" else httpx.BasicAuth
        self._auth = kind(username, password) if username else None
        self._tls_ca = tls_ca
        self._client: httpx.AsyncClient | None = None
        self._watch: asyncio.Task[None] | None = None
        self._failures = 0
        self._reason = ""
        self._head_works = True
        self._seen_s = 0.0

    async def start(self) -> None:
        """Look at the camera for the first time, then again and again. Raises ConfigError for a bad `tls_ca`."""
        verify: ssl.SSLContext | bool = False
        if self._url.startswith("https:"):
            try:
                verify = ssl.create_default_context(cafile=self._tls_ca)
            except OSError as exc:
                raise ConfigError(f"camera.tls_ca = {str(self._tls_ca)!r}: {exc.strerror or exc}") from exc
        # the environment's proxies are for the internet, not for a camera beside the belt
        self._client = httpx.AsyncClient(auth=self._auth, verify=verify, timeout=None, trust_env=False)
        for _ in range(FAILURES):
            if await self._look():
                break
        self._watch = asyncio.get_running_loop().create_task(self._look_after(), name="http camera")

    async def close(self) -> None:
        """End the watch and the connections."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        if self._client is not None:
            await self._client.aclose()

    @property
    def trouble(self) -> str | None:
        """Why no picture can be had just now."""
        return self._reason if self._failures >= FAILURES else None

    async def capture(self, part: Part, moment_ns: int) -> Frame:
        """Fetch a picture; while the camera is lost the reason is given at once. Raises CameraError."""
        if (trouble := self.trouble) is not None:
            raise CameraError(f"camera lost: {trouble}")
        late_ms = (time.monotonic_ns() - moment_ns) / 1e6
        if late_ms > self._max_late_ms:
            allowed = f"allowed is max_late_ms = {self._max_late_ms:g}"
            raise CameraError(
                f"http camera: the part was at the camera {late_ms:.0f} ms before its turn came: {allowed}"
            )
        captured_utc_ns = time.time_ns()
        with self._noted():
            data, media_type = await self._within(self._timeout_ms / 1e3, "GET")
        return Frame(data=data, media_type=media_type, captured_utc_ns=captured_utc_ns)

    async def _look_after(self) -> None:
        while True:
            due_s = LOOK_AGAIN_S if self._failures else self._seen_s + LOOK_S - time.monotonic()
            await asyncio.sleep(max(0.05, due_s))
            if self._failures or time.monotonic() - self._seen_s >= LOOK_S:
                await self._look()

    async def _look(self) -> bool:
        """Note whether the camera is there; a loss takes 2.4 s to be known, a slow camera's own limit apart."""
        limit_s = max(LOOK_LIMIT_S, self._timeout_ms / 1e3)
        with contextlib.suppress(CameraError), self._noted():
            if self._head_works and not self._failures:
                try:
                    await self._within(limit_s, "HEAD")
                except _BadAnswerError:
                    await self._within(limit_s, "GET")
                    self._head_works = False
            else:
                await self._within(limit_s, "GET")
        return not self._failures

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except CameraError as exc:
            self._failures += 1
            self._reason = str(exc)
            raise
        self._failures, self._seen_s = 0, time.monotonic()

    async def _within(self, limit_s: float, method: str) -> tuple[bytes, str]:
        """Ask within a limit, once more where a connection kept open turns out to be closed. Raises CameraError."""
        where = f"http camera {self._url}"
        try:
            async with asyncio.timeout(limit_s):
                try:
                    return await self._ask(method, where)
                except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                    return await self._ask(method, where)
        except TimeoutError as exc:
            raise CameraError(f"{where}: no whole answer within {limit_s * 1e3:g} ms") from exc
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise CameraError(f"{where}: {_cause(exc)}") from exc

    async def _ask(self, method: str, where: str) -> tuple[bytes, str]:
        assert self._client is not None
        home = httpx.URL(self._url)
        url = home
        for _ in range(1 + _REDIRECTS):
            async with self._client.stream(method, url) as answer:
                if answer.next_request is None:
                    return await self._read(answer, method, where)
                await self._body(answer, where)
                url = answer.next_request.url
                if (url.scheme, url.host, url.port) != (home.scheme, home.host, home.port):
                    raise CameraError(f"{where}: sends on to another host, {url.host}, which is not followed")
        raise CameraError(f"{where}: sends on more than {_REDIRECTS} times")

    async def _read(self, answer: httpx.Response, method: str, where: str) -> tuple[bytes, str]:
        status = answer.status_code
        if status != httpx.codes.OK:
            meaning = _REFUSED.get(status) or answer.reason_phrase
            raise _BadAnswerError(f"{where}: status {status}, {meaning}")
        label = answer.headers.get("content-type", "").split(";")[0].strip().lower()
        if label and label not in _LABELS:
            raise _BadAnswerError(f"{where}: content type {label[:80]!r}: allowed are image/jpeg and image/png")
        data = await self._body(answer, where)
        return (data, media_type_of(data, name=where)) if method == "GET" else (data, "")

    async def _body(self, answer: httpx.Response, where: str) -> bytes:
        """Read it all, even an empty one: a connection with something left unread is closed, not kept."""
        chunks, size = [], 0
        async for chunk in answer.aiter_bytes():
            size += len(chunk)
            if size > self._max_bytes:
                raise CameraError(f"{where}: the picture has more than {self._max_bytes} bytes")
            chunks.append(chunk)
        return b"".join(chunks)


def _cause(exc: Exception) -> str:
    """Give the system's own words where there are any: the library hides them behind its own."""
    link: BaseException | None = exc
    while link is not None:
        if isinstance(link, ssl.SSLError):
            return f"TLS: {getattr(link, 'verify_message', '') or link.reason or link}"
        if isinstance(link, OSError) and link.errno:
            # asyncio writes the address over the system's words; an error of name resolution has a number below 0
            return os.strerror(link.errno) if link.errno > 0 else str(link.strerror)
        link = link.__cause__ or link.__context__
    return str(exc) or type(exc).__name__
