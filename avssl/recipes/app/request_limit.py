"""Bound the size of a request to the app: all of its files and fields together, whatever its headers say."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from typing import Any

_Message = MutableMapping[str, Any]


class RequestLimit:
    """ASGI middleware that ends requests whose body is larger, with status 413.

    A body that declares its length is rejected before any of it is read; others, such as chunked ones, are counted as
    they come.

    Args:
        app: The application.
        max_bytes: Largest body.
    """

    def __init__(self, app: Any, max_bytes: int) -> None:
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: _Message, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self._max_bytes:
            await self._refuse(send)
            return
        received, is_answered = 0, False

        async def receive_counted() -> _Message:
            nonlocal received
            message: _Message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                from starlette.formparsers import MultiPartException

                raise MultiPartException("too large")  # upon which form parsers remove the files they have begun
            return message

        async def send_unless_too_large(message: _Message) -> None:
            nonlocal is_answered
            if received > self._max_bytes and not is_answered:
                return  # the application's own words for a request that broke off
            is_answered = True
            await send(message)

        try:
            await self._app(scope, receive_counted, send_unless_too_large)
        except Exception:
            if received <= self._max_bytes:
                raise
        if received > self._max_bytes and not is_answered:
            await self._refuse(send)

    async def _refuse(self, send: Any) -> None:
        text = f"A request may hold at most {self._max_bytes / 2**20:g} MB, all files together. Cut the video first."
        body = json.dumps({"detail": text}).encode()
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body})
