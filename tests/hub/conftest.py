"""A hub on loopback, which the client in this process uses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..hub_server import WRITE, Hub, running_hub


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Return an empty stand-in of the hub, which the client uses with an empty cache and a token that may write.

    The client reads its environment variables once, when it is imported; here its constants are set instead.
    """
    from huggingface_hub import constants

    with running_hub() as server:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # large files go through LFS then
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path_factory.mktemp("hub") / "token"))
        monkeypatch.setenv("HF_TOKEN", WRITE)
        yield server
