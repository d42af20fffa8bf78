import asyncio
import subprocess
import sys

import pytest

from avssl.recipes.app import local_only
from avssl.recipes.app.local_only import LocalOnly, is_allowed, is_local


@pytest.mark.parametrize(
    ("host", "origin", "allowed"),
    [
        ("127.0.0.1:7860", "", True),
        ("localhost:7860", "http://localhost:7860", True),
        ("127.0.0.1:7860", "http://127.0.0.1:7860", True),
        ("127.0.0.1:7860", "http://127.0.0.1:9999", False),
        ("127.0.0.1:7860", "https://127.0.0.1:7860", False),
        ("127.0.0.1:7860", "http://evil.example", False),
        ("127.0.0.1:7860", "null", False),
        ("evil.example:7860", "http://evil.example:7860", False),
        ("127.0.0.1.evil.example", "", False),
        ("evil@127.0.0.1:7860", "", False),
        ("[::1", "", False),
        ("", "", False),
    ],
)
def test_only_this_machine_and_its_own_page_are_answered(host, origin, allowed):
    assert is_allowed(host, origin) is allowed


def answer(headers, kind="http"):
    """What a guarded application that says "secret" answers."""

    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
        await send({"type": "http.response.body", "body": b"secret"})

    async def send(message):
        sent.append(message)

    sent = []
    asyncio.run(LocalOnly(application)({"type": kind, "headers": headers}, None, send))
    return sent


def test_a_page_of_its_own_is_answered_with_a_policy():
    start, body = answer([(b"host", b"127.0.0.1:7860"), (b"origin", b"http://127.0.0.1:7860")])
    headers = dict(start["headers"])
    assert body["body"] == b"secret"
    assert headers[b"x"] == b"y"
    policy = headers[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy
    assert "http" not in policy


def test_strangers_get_nothing():
    start, body = answer([(b"host", b"127.0.0.1:7860"), (b"origin", b"http://evil.example")])
    assert start["status"] == 403
    assert b"secret" not in body["body"]
    assert answer([(b"host", b"evil.example")], "websocket") == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        (b"localhost", True),
        ("::1", True),
        ("::1%lo", True),
        (None, True),
        ("", True),
        ("10.0.0.1", False),
        ("8.8.8.8", False),
        (b"huggingface.co", False),
        ("127.0.0.1.evil.example", False),
        ("2001:db8::1", False),
    ],
)
def test_addresses_of_this_machine_are_known(host, local):
    assert is_local(host) is local


def test_connections_elsewhere_are_refused():
    for event, arguments in (
        ("socket.connect", (None, ("10.0.0.1", 80))),
        ("socket.sendto", (None, ("10.0.0.1", 53))),
        ("socket.getaddrinfo", ("api.gradio.app", 443, 0, 0, 0)),
    ):
        with pytest.raises(ConnectionRefusedError, match="does not connect to other machines"):
            local_only._check_address(event, arguments)
    local_only._check_address("socket.connect", (None, ("127.0.0.1", 80)))
    local_only._check_address("socket.connect", (None, "/run/socket"))
    local_only._check_address("open", ("10.0.0.1", "r", 0))


def test_a_process_that_refuses_still_talks_to_itself():
    code = """
import asyncio, socket
from avssl.recipes.app.local_only import block_connections
block_connections()
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname()).close()
for attempt in (
    lambda: socket.create_connection(("10.0.0.1", 80), timeout=1),
    lambda: socket.create_connection(("example.org", 80), timeout=1),
    lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("10.0.0.1", 53)),
    lambda: asyncio.run(asyncio.open_connection("10.0.0.1", 80)),
):
    try:
        attempt()
    except ConnectionRefusedError as error:
        print(str(error).split(":")[0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["'10.0.0.1'", "'example.org'", "'10.0.0.1'", "'10.0.0.1'"], done.stderr
