"""A Hub on loopback: as much of its HTTP API as huggingface_hub's own client asks for, with failures on demand."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub.utils._http as hub_http
import pytest
import yaml
from huggingface_hub import constants
from huggingface_hub.repocard_data import model_index_to_eval_results


# What a client asks of its own accord, once per process, is not counted.
_ABOUT_REPOSITORIES = (
    "/api/whoami",
    "/api/repos",
    "/api/models",
    "/api/datasets",
    "/api/validate",
    "/objects",
    "/me/",
)
TOKEN = "hf_" + "a1B2" * 9


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=lambda: ["0" * 40])


@dataclass
class Failure:
    """Fail requests whose "METHOD path" contains `where`: with a status, or `"drop"` the connection."""

    where: str
    how: int | str
    times: int = 10**6
    headers: dict[str, str] = field(default_factory=dict)


class FakeHub:
    """
    State of the server.

    Args:
        role (`str`): Role of the one token.
        orgs (`list[dict]`): Organisations of its owner, `me`.
        uses_lfs (`bool`): Whether safetensors and parquet go the way of large files.
    """

    def __init__(self, role: str = "write", orgs: list[dict[str, str]] | None = None, uses_lfs: bool = False):
        self.role, self.orgs, self.uses_lfs = role, orgs or [], uses_lfs
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.failures: list[Failure] = []
        self.requests: list[str] = []
        self.endpoint = ""

    def add(self, repo_id: str, *, repo_type: str = "model", private: bool = True) -> Repository:
        return self.repositories.setdefault(f"{repo_type}s/{repo_id}", Repository(private))

    def is_large(self, path: str) -> bool:
        return self.uses_lfs and path.endswith((".safetensors", ".parquet"))

    @contextmanager
    def serving(self) -> Iterator[FakeHub]:
        hub = self

        class Handler(_Handler):
            state = hub

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def _answer(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body if body is not None else {}).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _not_found(self, code: str) -> None:
        self._answer(404, {"error": code}, {"X-Error-Code": code})

    def handle_any(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path.startswith(_ABOUT_REPOSITORIES):
            self.state.requests.append(f"{self.command} {path}")
        for failure in self.state.failures:
            if failure.where in f"{self.command} {path}" and failure.times > 0:
                failure.times -= 1
                if failure.how == "drop":
                    self.close_connection = True
                    self.connection.close()
                else:
                    self._answer(int(failure.how), {"error": "injected"}, failure.headers)
                return
        if path.startswith("/objects/"):
            self.state.objects[path.removeprefix("/objects/")] = body
            return self._answer(200)
        if self.headers.get("Authorization") not in (f"Bearer {TOKEN}", None):
            message = "Invalid credentials in Authorization header"
            return self._answer(401, {"error": message}, {"X-Error-Message": message})
        for pattern, handle in _ROUTES:
            if match := re.fullmatch(pattern, f"{self.command} {path}"):
                return handle(self, body, **match.groupdict())
        self._answer(404, {"error": f"no route {path}"})

    do_GET = do_POST = do_PUT = do_HEAD = handle_any  # noqa: N815

    def whoami(self, body: bytes) -> None:
        token: dict[str, Any] = {"role": self.state.role, "displayName": "test"}
        if self.state.role == "fineGrained":
            token["fineGrained"] = {"global": [], "scoped": [{"entity": {"name": "me"}, "permissions": ["repo.read"]}]}
        orgs = [{"type": "org", **org} for org in self.state.orgs]
        self._answer(200, {"type": "user", "name": "me", "orgs": orgs, "auth": {"accessToken": token}})

    def create(self, body: bytes) -> None:
        wanted = json.loads(body)
        repo_type, repo_id = wanted.get("type", "model"), f"{wanted['organization']}/{wanted['name']}"
        exists = f"{repo_type}s/{repo_id}" in self.state.repositories
        self.state.add(repo_id, repo_type=repo_type, private=wanted.get("visibility") == "private")
        prefix = "" if repo_type == "model" else f"{repo_type}s/"
        self._answer(409 if exists else 200, {"url": f"{self.state.endpoint}/{prefix}{repo_id}"})

    def validate(self, body: bytes) -> None:
        content = json.loads(body)["content"]
        try:
            metadata = yaml.safe_load(content.split("---\n")[1])
            if "model-index" in metadata:
                model_index_to_eval_results(metadata["model-index"])
        except Exception as error:
            return self._answer(400, {"errors": [{"message": repr(error)}]})
        self._answer(200, {"errors": [], "warnings": []})

    def info(self, body: bytes, repo: str, revision: str = "main") -> None:
        found = self.state.repositories.get(repo)
        if found is None:
            return self._not_found("RepoNotFound")
        card = found.files.get("README.md", b"").decode()
        metadata = yaml.safe_load(card.split("---\n")[1]) if card.startswith("---\n") else None
        siblings = [{"rfilename": name} for name in found.files]
        repo_id = repo.split("/", 1)[1]
        answer = {"id": repo_id, "_id": "1", "private": found.private, "sha": found.commits[-1], "siblings": siblings}
        self._answer(200, answer | ({"cardData": metadata} if metadata else {}))

    def auth_check(self, body: bytes, repo: str) -> None:
        self._answer(200) if repo in self.state.repositories else self._not_found("RepoNotFound")

    def tree(self, body: bytes, repo: str, revision: str, folder: str = "") -> None:
        files = self.state.repositories[repo].files
        prefix = f"{folder}/" if folder else ""
        entries = [
            {"type": "file", "path": name, "oid": hashlib.sha1(content).hexdigest(), "size": len(content)}
            for name, content in files.items()
            if name.startswith(prefix)
        ]
        self._answer(200, entries) if entries or not folder else self._not_found("EntryNotFound")

    def paths_info(self, body: bytes, repo: str, revision: str) -> None:
        self._answer(200, [])

    def preupload(self, body: bytes, repo: str, revision: str) -> None:
        files = self.state.repositories[repo].files
        answers = []
        for file in json.loads(body)["files"]:
            name, content, is_large = file["path"], files.get(file["path"]), self.state.is_large(file["path"])
            answer = {"path": name, "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False}
            if content is not None:
                blob = content if is_large else b"blob %d\0" % len(content) + content
                answer["oid"] = (hashlib.sha256 if is_large else hashlib.sha1)(blob).hexdigest()
            answers.append(answer)
        self._answer(200, {"files": answers})

    def lfs_batch(self, body: bytes, repo_id: str) -> None:
        objects = json.loads(body)["objects"]
        for wanted in objects:
            if wanted["oid"] not in self.state.objects:
                wanted["actions"] = {"upload": {"href": f"{self.state.endpoint}/objects/{wanted['oid']}"}}
        self._answer(200, {"transfer": "basic", "objects": objects})

    def commit(self, body: bytes, repo: str, revision: str) -> None:
        repository = self.state.repositories[repo]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository.files[value["path"]] = self.state.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del repository.files[value["path"]]
        repository.commits.append(hashlib.sha1(body + repository.commits[-1].encode()).hexdigest())
        oid = repository.commits[-1]
        self._answer(200, {"commitOid": oid, "commitUrl": f"{self.state.endpoint}/{repo}/commit/{oid}"})

    def resolve(self, body: bytes, repo_id: str, revision: str, file: str, datasets: str | None = None) -> None:
        repository = self.state.repositories.get(f"{'datasets' if datasets else 'models'}/{repo_id}")
        if repository is None:
            return self._not_found("RepoNotFound")
        if file not in repository.files:
            return self._not_found("EntryNotFound")
        content = repository.files[file]
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        self._answer(200, content, {"ETag": etag, "X-Repo-Commit": repository.commits[-1]})


_REPO = r"(?P<repo>(?:model|dataset)s/[^/]+/[^/]+)"
_ROUTES = [
    ("GET /api/whoami-v2", _Handler.whoami),
    ("POST /api/repos/create", _Handler.create),
    ("POST /api/validate-yaml", _Handler.validate),
    (f"GET /api/{_REPO}(?:/revision/(?P<revision>[^/]+))?", _Handler.info),
    (f"GET /api/{_REPO}/auth-check(?:/write)?", _Handler.auth_check),
    (f"GET /api/{_REPO}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?", _Handler.tree),
    (f"POST /api/{_REPO}/paths-info/(?P<revision>[^/]+)", _Handler.paths_info),
    (f"POST /api/{_REPO}/preupload/(?P<revision>[^/]+)", _Handler.preupload),
    (f"POST /api/{_REPO}/commit/(?P<revision>[^/]+)", _Handler.commit),
    (r"POST /(?P<repo_id>.+)\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    (
        "(?:GET|HEAD) /(?P<datasets>datasets/)?(?P<repo_id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)",
        _Handler.resolve,
    ),
]


def go_online(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Point the client, which reads its environment when it is imported, at an endpoint; retries do not wait."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(hub_http, "time", SimpleNamespace(sleep=lambda seconds: None))
