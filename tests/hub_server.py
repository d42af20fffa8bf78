"""A stand-in of the Hugging Face hub on loopback: the part of its HTTP interface that downloads and commits need."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

WRITE, READ, INVALID = "hf_may_write", "hf_may_read", "hf_invalid"
"""Tokens of the user ``owner``, and one that the hub does not know."""


class Repository:
    """Commits of a model repository: the files of each by path, and the newest of each branch."""

    def __init__(self, private: bool = False) -> None:
        self.private, self.gated = private, False
        self.commits: dict[str, dict[str, bytes]] = {}
        self.branches: dict[str, str] = {}
        self.messages: list[str] = []
        self.commit("main", {".gitattributes": b""}, "initial commit")

    def commit(self, branch: str, files: dict[str, bytes], message: str) -> str:
        number = hashlib.sha1(f"{branch} {len(self.commits)}".encode()).hexdigest()
        self.commits[number], self.branches[branch] = files, number
        self.messages.append(message)
        return number

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return self.commits[self.branches.get(revision, revision)]


class Hub(ThreadingHTTPServer):
    """Repositories by ``owner/name``, and everything that was requested."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.cut: dict[str, int] = {}
        """Bytes of a file after which the connection breaks, by its name."""
        self.damaged: set[str] = set()
        """Names of files of which a byte changes on the way."""
        self.address = f"http://127.0.0.1:{self.server_port}"

    def add(self, name: str, files: dict[str, bytes] | Path, *, private: bool = False) -> Repository:
        """Add a repository with files, those of a folder or given ones."""
        if isinstance(files, Path):
            files = {path.name: path.read_bytes() for path in files.iterdir() if path.is_file()}
        self.repositories[name] = found = Repository(private)
        found.commit("main", dict(files), "files")
        return found


Answer = tuple[int, Any, dict[str, str]]
"""Status, content and headers."""


class Handler(BaseHTTPRequestHandler):
    """One request, answered as the hub does."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.server.requests.append(f"{self.command} /{path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            status, content, headers = self._route(path, body, token)
        except PermissionError as error:
            status, content = 403 if token and token != INVALID else 401, {"error": "Forbidden"}
            headers = {"X-Error-Message": "You have no write access"}
            if token == INVALID:
                headers = {"X-Error-Message": "Invalid credentials in Authorization header"}
            elif str(error) == "gated":
                headers = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to this repository is restricted"}
        except KeyError as error:
            status, content, headers = 404, {"error": "not found"}, {"X-Error-Code": str(error.args[0])}
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        if status == 200 and (part := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))):
            status, data = 206, data[int(part[1]) : int(part[2]) + 1]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        name = path.rpartition("/")[2]
        if name in self.server.damaged:
            data = data[:-1] + bytes([data[-1] ^ 1])
        self.wfile.write(data[: self.server.cut.get(name)])
        self.close_connection |= name in self.server.cut

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def _route(self, path: str, body: bytes, token: str) -> Answer:
        parts = path.split("/")
        if parts[0] == "large":
            self.server.large[parts[1]] = body
            return 200, {}, {}
        if path == "api/repos/create":
            return self._create(json.loads(body), token)
        if path == "api/validate-yaml":
            return 200, {"errors": [], "warnings": []}, {}
        if parts[:2] in (["api", "models"], ["api", "datasets"]):
            name = "/".join(parts[2:4] if parts[1] == "models" else parts[1:4])
            return self._api(name, parts[4:], body, token)
        if path.endswith(".git/info/lfs/objects/batch"):
            self._check_may_write(token)
            objects = json.loads(body)["objects"]
            for each in objects:
                each["actions"] = {"upload": {"href": f"{self.server.address}/large/{each['oid']}"}}
            return 200, {"transfer": "basic", "objects": objects}, {}
        owner = 1 if parts[0] == "datasets" else 0
        if parts[owner + 2 : owner + 3] == ["resolve"]:
            return self._resolve("/".join(parts[: owner + 2]), parts[owner + 3], "/".join(parts[owner + 4 :]), token)
        raise KeyError("RepoNotFound")

    def _create(self, wanted: dict[str, Any], token: str) -> Answer:
        self._check_may_write(token)
        name = f"{wanted.get('organization') or 'owner'}/{wanted['name']}"
        if not name.startswith("owner/"):
            raise PermissionError(name)
        name = f"datasets/{name}" if wanted.get("type") == "dataset" else name
        about = {"url": f"{self.server.address}/{name}", "name": name, "id": "1"}
        if name in self.server.repositories:
            return 409, about, {}
        is_private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self.server.repositories[name] = Repository(is_private)
        return 200, about, {}

    def _api(self, name: str, rest: list[str], body: bytes, token: str) -> Answer:
        repository, verb = self._repository(name, token), rest[0] if rest else "revision"
        revision = "/".join(rest[1:2] if verb == "tree" else rest[1:]) or "main"
        if verb in ("preupload", "commit", "branch"):
            self._check_may_write(token)
        if verb == "branch":
            is_new = revision not in repository.branches
            repository.branches.setdefault(revision, repository.branches["main"])
            return 200 if is_new else 409, {}, {}
        number = repository.branches.get(revision, revision)
        if number not in repository.commits:
            raise KeyError("RevisionNotFound")
        files = repository.commits[number]
        if verb == "preupload":
            listed = [
                {"path": f["path"], "shouldIgnore": False, "uploadMode": "lfs" if _is_large(f["path"]) else "regular"}
                for f in json.loads(body)["files"]
            ]
            return 200, {"files": listed}, {}
        if verb == "commit":
            return self._commit(name, repository, revision, body)
        if verb == "tree":
            return 200, self._tree(files, "/".join(rest[2:])), {}
        if verb == "paths-info":
            return 200, _entries(files, parse_qs(body.decode())["paths"]), {}
        siblings = [{"rfilename": path} for path in files]
        return 200, {"id": name, "sha": number, "private": repository.private, "siblings": siblings}, {}

    def _tree(self, files: dict[str, bytes], folder: str) -> list[dict[str, Any]]:
        """Return what lies in a folder, and in those below it if the query has ``recursive``."""
        start = f"{folder}/" if folder else ""
        below = [path for path in _with_folders(files) if path.startswith(start)]
        if not below:
            raise KeyError("EntryNotFound")
        is_deep = parse_qs(urlsplit(self.path).query).get("recursive") in (["True"], ["true"])
        return _entries(files, [path for path in below if is_deep or "/" not in path.removeprefix(start)])

    def _commit(self, name: str, repository: Repository, branch: str, body: bytes) -> Answer:
        files, message = dict(repository.files(branch)), ""
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
                if value.get("parentCommit", repository.branches[branch]) != repository.branches[branch]:
                    return 412, {"error": "A commit has happened since."}, {}
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
            else:
                del files[value["path"]]
        number = repository.commit(branch, files, message)
        return 200, {"commitUrl": f"{self.server.address}/{name}/commit/{number}", "commitOid": number}, {}

    def _resolve(self, name: str, revision: str, path: str, token: str) -> Answer:
        repository = self._repository(name, token)
        number = repository.branches.get(revision, revision)
        if path not in repository.commits[number]:
            raise KeyError("EntryNotFound")
        content = repository.commits[number][path]
        return 200, content, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": number}

    def _repository(self, name: str, token: str) -> Repository:
        if token == INVALID:
            raise PermissionError(token)
        found = self.server.repositories.get(name)
        if found is not None and found.gated:
            raise PermissionError("gated")
        if found is None or (found.private and token not in (READ, WRITE)):
            raise KeyError("RepoNotFound")
        return found

    def _check_may_write(self, token: str) -> None:
        if token != WRITE:
            raise PermissionError(token)


def _is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".parquet"))


def _with_folders(files: Iterable[str]) -> list[str]:
    """Return the paths of files and of the folders in which they lie."""
    return sorted({str(each) for path in files for each in (path, *PurePosixPath(path).parents) if str(each) != "."})


def _entries(files: dict[str, bytes], paths: Iterable[str]) -> list[dict[str, Any]]:
    """Return what the hub tells about files and folders, without those that do not exist."""
    known = [path for path in paths if path in _with_folders(files)]
    return [
        _entry(path, files[path]) if path in files else {"type": "directory", "path": path, "oid": "0"}
        for path in known
    ]


def _entry(path: str, content: bytes) -> dict[str, Any]:
    number = hashlib.sha1(content).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": number}
    if _is_large(path):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 100}
    return entry


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Serve an empty hub until the block ends."""
    with Hub() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()
