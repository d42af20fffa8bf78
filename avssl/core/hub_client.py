"""The client of the Hugging Face hub: one place that imports it, downloads, and puts its errors into one line.

Address, token, cache and offline mode are the client's: HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avssl.core.checkpoint_names import HUB, HubError, HubName
from avssl.core.user_files import open_regular

LOG_IN = "Log in with: hf auth login, or set HF_TOKEN."
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BROKEN_OFF = ("RemoteProtocolError", "ReadError", "ReadTimeout", "IncompleteRead", "ChunkedEncodingError")
"""Names of errors in the middle of an answer, of the HTTP libraries that the client has used."""


def hub_client(name: HubName) -> Any:
    """Return the module ``huggingface_hub``; raise HubError with the line that installs it."""
    try:
        importlib.import_module("huggingface_hub.constants")  # the package itself imports it when it first works
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise HubError(
            f"{name}: the client of the Hugging Face hub is not installed: pip install 'avssl[hub]'. A folder here is "
            "named by its path."
        ) from error


def download(name: HubName, patterns: Sequence[str]) -> Path:
    """Return the cached folder of the files of a repository that match patterns, after fetching those that are missing.

    Large files that have arrived now are compared with the hash that the hub names; a damaged one is removed.

    Raises:
        HubError: If the client is not installed, the repository cannot be read, or a file is damaged.
    """
    client = hub_client(name)
    known = set(_blobs(name, client))
    with hub_errors(name, client):
        folder = Path(client.snapshot_download(name.repository, revision=name.revision, allow_patterns=list(patterns)))
    for blob in set(_blobs(name, client)) - known:
        if _SHA256.fullmatch(blob.name) and _sha256(blob) != blob.name:
            damaged = next((file.name for file in folder.iterdir() if file.resolve() == blob.resolve()), blob.name)
            blob.unlink()
            raise HubError(
                f"{name}: {damaged} has arrived damaged, as its hash differs from the hub's, and was removed. Try "
                "again; if that does not help, look at what is between this machine and HF_ENDPOINT."
            )
    return folder


def _blobs(name: HubName, client: Any) -> Iterator[Path]:
    """Yield the files of a repository in the cache, which have their hash as their name."""
    folder = Path(client.constants.HF_HUB_CACHE) / f"models--{name.repository.replace('/', '--')}" / "blobs"
    return folder.glob("*")


def _sha256(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_offline(name: HubName) -> bool:
    """Return True if HF_HUB_OFFLINE is set."""
    return bool(hub_client(name).constants.HF_HUB_OFFLINE)


def list_files(name: HubName) -> list[str]:
    """Return the names of all files of a repository; empty if that cannot be found out, as without a network."""
    try:
        return list(hub_client(name).HfApi().list_repo_files(name.repository, revision=name.revision))
    except Exception:  # for a hint only
        return []


@contextmanager
def hub_errors(name: HubName, client: Any) -> Iterator[None]:
    """Turn the client's errors into HubError: what is wrong with the repository, and what to do."""
    try:
        yield
    except HubError:
        raise
    except Exception as error:  # the client's own errors, and those of its HTTP library, which has changed
        raise HubError(f"{name}: {_explain(error, name, client)}") from error


def _explain(error: Exception, name: HubName, client: Any) -> str:
    errors, address = importlib.import_module("huggingface_hub.errors"), client.constants.ENDPOINT
    chain = _chain(error)
    answer = next((each for each in chain if getattr(each, "response", None) is not None), error)
    status = getattr(getattr(answer, "response", None), "status_code", None)
    if isinstance(answer, errors.GatedRepoError):
        return f"the repository is gated: accept its terms at {address}/{name.repository}. {LOG_IN}"
    if isinstance(answer, errors.RevisionNotFoundError):
        return f"the repository has no revision {name.revision or 'main'}."
    if status == 401 and "credentials" in str(answer):
        return f"{address} does not accept the token. {LOG_IN}"
    if isinstance(answer, errors.RepositoryNotFoundError):
        return f"no such repository at {address}, or it is private. Look for a typing error. {LOG_IN}"
    if status in (401, 403):
        return f"this token may not do that at {address}. Use one with write access to {name.repository.split('/')[0]}."
    if status == 412:
        return "somebody else has changed the repository in the meantime. Look at it, and try again."
    if status is not None:
        return f"{address} answers {status}: {_text(answer)}"
    if client.constants.HF_HUB_OFFLINE:
        return f"is not in the cache ({client.constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE is set.{_near(name, client)}"
    if isinstance(error, errors.HFValidationError):
        return f"not a name of a repository: {error}"
    if "Consistency check failed" in str(error) or any(type(each).__name__ in _BROKEN_OFF for each in chain):
        reason = _text(chain[-1]).partition(" Please retry")[0]
        return f"the connection to {address} broke off ({reason}). Try again: what has arrived is kept."
    if any(isinstance(each, ConnectionError | TimeoutError) or _is_of_http(each) for each in chain):
        return f"{address} cannot be reached: {_text(chain[-1])}. Look at the network and HF_ENDPOINT."
    return _text(error)


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and those behind it, the first cause last."""
    found = [error]
    while (cause := found[-1].__cause__) is not None:
        found.append(cause)
    return found


def _is_of_http(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in (
        "httpx",
        "httpx2",
        "httpcore",
        "httpcore2",
        "requests",
        "urllib3",
    )


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(".: ")


def _near(name: HubName, client: Any) -> str:
    """Return " Did you mean ...?" with the nearest repository in the cache, or ""."""
    found = Path(client.constants.HF_HUB_CACHE).glob("models--*--*")
    names = [folder.name.removeprefix("models--").replace("--", "/", 1) for folder in found]
    near = difflib.get_close_matches(name.repository, names, n=1)
    return f" Did you mean {HUB}{near[0]}?" if near else ""
