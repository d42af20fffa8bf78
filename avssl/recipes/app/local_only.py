"""Nothing leaves this machine, and no other page gets in.

A page on 127.0.0.1 can be called by every page the browser shows, and, if a stranger's name is made to point at
127.0.0.1, even be read by it. So requests are answered only under the names of this machine and only to pages of
this server, and the browser is told to fetch nothing from elsewhere.
"""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:[0-9]+)?")
_POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' blob: 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' blob:",
        "worker-src 'self' blob:",
        "frame-ancestors 'none'",
        "form-action 'self'",
        "base-uri 'self'",
    ]
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]

_Message = MutableMapping[str, Any]
_App = Callable[[_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]], Awaitable[None]]


class LocalOnly:
    """An ASGI application that lets through what comes from a page of this server.

    Args:
        app: The application itself.
    """

    def __init__(self, app: _App) -> None:
        self._app = app

    async def __call__(self, scope: _Message, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if not is_allowed(headers.get(b"host", b"").decode("latin-1"), headers.get(b"origin", b"").decode("latin-1")):
            await _refuse(scope, send)
            return

        async def send_guarded(message: _Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        await self._app(scope, receive, send_guarded)


def is_allowed(host: str, origin: str) -> bool:
    """Whether a request was sent to this machine under its own name, by a page of the same server or by no page."""
    return _HOST.fullmatch(host) is not None and origin in ("", f"http://{host}")


async def _refuse(scope: _Message, send: Callable[[_Message], Awaitable[None]]) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    plain = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 403, "headers": plain})
    await send({"type": "http.response.body", "body": b"This server answers only pages of its own on 127.0.0.1.\n"})


def refuse_connections() -> None:
    """From now on this process connects to nothing but this machine. There is no way back but its end.

    Python's audit events (PEP 578) see every connection that Python code makes, whatever library asks for it.
    """
    sys.addaudithook(_only_here)


def _only_here(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        if not isinstance(address, tuple):  # a socket of the file system, or one that is connected
            return
        host = address[0]
    else:
        return
    if not is_local(host):
        raise ConnectionRefusedError(f"{host!r}: avssl app connects to nothing outside this machine.")


def is_local(host: str | bytes | None) -> bool:
    """Whether a name or an address is this machine's own."""
    name = host.decode("latin-1") if isinstance(host, bytes) else host
    if not name or name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False
