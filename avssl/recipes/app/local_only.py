"""Keep the app's data on this machine, and other web pages out.

Any web page in the browser can send requests to a server on 127.0.0.1, and with DNS rebinding (a foreign host name that
resolves to 127.0.0.1) also read the responses. So the server accepts only its own host names and its own pages, and a
content security policy forbids the browser to fetch anything from elsewhere.
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
    """ASGI middleware that rejects requests from other pages or under other host names.

    Args:
        app: The application.
    """

    def __init__(self, app: _App) -> None:
        self._app = app

    async def __call__(self, scope: _Message, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if not is_allowed(headers.get(b"host", b"").decode("latin-1"), headers.get(b"origin", b"").decode("latin-1")):
            await _reject(scope, send)
            return

        async def send_guarded(message: _Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        await self._app(scope, receive, send_guarded)


def is_allowed(host: str, origin: str) -> bool:
    """Return True for requests to this host by its own name, from one of its own pages or from no page."""
    return _HOST.fullmatch(host) is not None and origin in ("", f"http://{host}")


async def _reject(scope: _Message, send: Callable[[_Message], Awaitable[None]]) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    plain = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 403, "headers": plain})
    await send(
        {"type": "http.response.body", "body": b"This server accepts requests from its own pages on 127.0.0.1 only.\n"}
    )


def block_connections() -> None:
    """Forbid this process to connect to other machines, until it ends.

    Python's audit events (PEP 578) cover every connection that Python code makes, in any library.
    """
    sys.addaudithook(_check_address)


def _check_address(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        if not isinstance(address, tuple):  # a Unix socket, or a connected one
            return
        host = address[0]
    else:
        return
    if not is_local(host):
        raise ConnectionRefusedError(f"{host!r}: avssl app does not connect to other machines.")


def is_local(host: str | bytes | None) -> bool:
    """Return True for host names and addresses of this machine."""
    name = host.decode("latin-1") if isinstance(host, bytes) else host
    if not name or name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False
