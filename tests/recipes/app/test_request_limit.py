"""A request is bounded as a whole: declared or chunked, one file or many, read by gradio or not."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from avssl.recipes.app.request_limit import RequestLimit

pytest.importorskip("starlette")
LIMIT = 100


def request(
    chunks: list[bytes], *, declared: int | None = None, swallows: bool = False, kind: str = "http"
) -> tuple[list[dict[str, Any]], int]:
    """The answer to a body in chunks, and the number of bytes that the application got."""
    seen, sent, left = 0, [], list(chunks)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        nonlocal seen
        try:
            while True:
                message = await receive()
                seen += len(message["body"])
                if not message["more_body"]:
                    break
        except Exception:  # as form parsers do
            if not swallows:
                raise
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": b"bad form"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"fine"})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [] if declared is None else [(b"content-length", str(declared).encode())]
    asyncio.run(RequestLimit(application, LIMIT)({"type": kind, "headers": headers}, receive, send))
    return sent, seen


@pytest.mark.parametrize("declared", [None, 100, 3])
def test_a_body_up_to_the_limit_passes(declared: int | None) -> None:
    sent, seen = request([b"x" * 60, b"x" * 40], declared=declared)
    assert ([m.get("status") for m in sent], seen) == ([200, None], 100)


@pytest.mark.parametrize("declared", [None, 3])
@pytest.mark.parametrize("swallows", [False, True])
def test_files_that_are_too_large_together_are_refused(declared: int | None, swallows: bool) -> None:
    sent, seen = request([b"x" * 60] * 5, declared=declared, swallows=swallows)
    assert [m.get("status") for m in sent] == [413, None]
    assert "at most" in json.loads(sent[1]["body"])["detail"]
    assert seen == 60  # the rest was not read


def test_a_declared_length_is_refused_before_anything_is_read() -> None:
    sent, seen = request([b"x"], declared=101)
    assert (sent[0]["status"], seen) == (413, 0)


def test_errors_of_the_application_are_its_own() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(RequestLimit(broken, LIMIT)({"type": "http", "headers": []}, None, None))


def test_other_connections_pass() -> None:
    sent, seen = request([b"x" * 500], kind="websocket")
    assert (sent[0]["status"], seen) == (200, 500)


def test_two_files_of_a_form_are_counted_together() -> None:
    """With the server and the form parser of gradio's framework, chunked and not."""
    testclient = pytest.importorskip("starlette.testclient", exc_type=(ImportError, RuntimeError))
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def upload(request: Request) -> PlainTextResponse:
        async with request.form() as form:
            return PlainTextResponse(str(len(form)))

    app = Starlette(
        routes=[Route("/", upload, methods=["POST"])], middleware=[Middleware(RequestLimit, max_bytes=2000)]
    )
    client = testclient.TestClient(app)
    small, large = dict.fromkeys("ab", ("a.mp4", b"x" * 500)), dict.fromkeys("ab", ("a.mp4", b"x" * 1500))
    assert client.post("/", files=small).text == "2"
    assert client.post("/", files=large).status_code == 413
    head = (
        b'--b\r\nContent-Disposition: form-data; name="%d"; filename="a"\r\n\r\n' % number + b"x" * 800 + b"\r\n"
        for number in range(5)
    )
    chunked = client.post("/", content=head, headers={"content-type": "multipart/form-data; boundary=b"})
    assert chunked.status_code == 413
