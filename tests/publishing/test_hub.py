"""The pre-flight and the upload, by huggingface_hub's own client against a Hub on loopback."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from helpers.fake_hub import TOKEN, Failure, FakeHub, go_online
from paced_trl.publishing.hub import HubRepository, check_license, check_repository, upload


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub with one token, which is logged in."""
    with FakeHub().serving() as hub:
        go_online(monkeypatch, hub.endpoint)
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "staged"
    folder.mkdir()
    (folder / "README.md").write_text("---\ntags: [a]\n---\n# Card\n")
    (folder / "adapter_model.safetensors").write_bytes(b"weights" * 1000)
    (folder / "figures").mkdir()
    (folder / "figures" / "a.png").write_bytes(b"\x89PNG")
    return folder


def test_a_new_repository_is_created_private(hub: FakeHub) -> None:
    assert check_repository("me/student") == HubRepository("me/student")
    assert hub.repositories["models/me/student"].private
    check_repository("me/open", private=False)
    assert not hub.repositories["models/me/open"].private
    assert check_repository("data", repo_type="dataset").repo_id == "me/data"
    assert hub.repositories["datasets/me/data"].private


def test_an_existing_public_repository_is_no_private_one(hub: FakeHub) -> None:
    hub.add("me/student", private=False)
    with pytest.raises(ValueError, match=r"exists and is public.*--public"):
        check_repository("me/student")
    assert check_repository("me/student", private=False).repo_id == "me/student"


@pytest.mark.parametrize("name", ["a b/c", "me/x/y", "me/-x", "me/x..y", ""])
def test_names_that_cannot_be_are_refused_without_a_request(name: str, hub: FakeHub) -> None:
    with pytest.raises(ValueError, match="cannot be a repository"):
        check_repository(name)
    assert hub.requests == []


@pytest.mark.parametrize("role", ["read", "fineGrained"])
def test_a_token_that_may_only_read_is_refused_before_the_repository_is_touched(role: str, hub: FakeHub) -> None:
    hub.role = role
    with pytest.raises(PermissionError, match="may only read"):
        check_repository("me/student")
    assert hub.requests == ["GET /api/whoami-v2"]


@pytest.mark.parametrize(("organisation", "is_writable"), [("lab", True), ("club", False), ("other", False)])
def test_only_namespaces_that_take_writes_are_accepted(organisation: str, is_writable: bool, hub: FakeHub) -> None:
    hub.orgs = [{"name": "lab", "roleInOrg": "write"}, {"name": "club", "roleInOrg": "read"}]
    if is_writable:
        assert check_repository(f"{organisation}/student").repo_id == f"{organisation}/student"
    else:
        with pytest.raises(PermissionError, match=f"may not write to '{organisation}'.* Publish to me or lab"):
            check_repository(f"{organisation}/student")


def test_no_token_is_said(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(PermissionError, match="There is no Hub token"):
        check_repository("me/student")


def test_offline_is_said_plainly(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match=r"offline mode is on \(HF_HUB_OFFLINE\).*publish later"):
        check_repository("me/student")
    assert hub.requests == []


def test_an_unreachable_hub_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        go_online(monkeypatch, f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(ConnectionError, match=r"cannot be reached for 'me/student'.*publish later"):
            check_repository("me/student")


@pytest.mark.parametrize(
    ("where", "how", "kind", "message"),
    [
        ("whoami", 401, PermissionError, "does not accept the token"),
        ("whoami", 429, ConnectionError, r"too many requests \(429\); it asks to wait 7 s"),
        ("whoami", 500, ConnectionError, r"fault of its own \(500\)"),
        ("whoami", "drop", ConnectionError, "cannot be reached"),
        ("create", 403, PermissionError, "may not write to 'me/student'"),
        ("auth-check", 403, PermissionError, "may not write to 'me/student'"),
        ("create", 500, ConnectionError, r"fault of its own \(500\)"),
    ],
)
def test_what_the_hub_refuses_is_said_before_anything_else_runs(
    hub: FakeHub, where: str, how: int | str, kind: type[Exception], message: str
) -> None:
    hub.failures.append(Failure(where, how, headers={"Retry-After": "7"}))
    with pytest.raises(kind, match=message) as refused:
        check_repository("me/student")
    assert TOKEN not in str(refused.value)


def test_a_wrong_token_is_said(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(PermissionError, match="does not accept the token"):
        check_repository("me/student")


def test_an_unchanged_second_upload_makes_no_commit(hub: FakeHub, folder: Path) -> None:
    repository = check_repository("me/student")
    _, is_new = upload(repository, folder, commit_message="Student")
    stored = hub.repositories["models/me/student"]
    assert is_new and len(stored.commits) == 2
    assert stored.files["adapter_model.safetensors"] == b"weights" * 1000
    assert set(stored.files) == {"README.md", "adapter_model.safetensors", "figures/a.png"}
    url, is_new = upload(repository, folder, commit_message="Student")
    assert not is_new and len(stored.commits) == 2 and url.endswith(stored.commits[-1])


def test_only_named_files_that_are_no_more_are_deleted(hub: FakeHub, folder: Path) -> None:
    stored = hub.add("me/student")
    stored.files |= {"model.safetensors": b"old", "LICENSE": b"theirs"}
    upload(HubRepository("me/student"), folder, commit_message="Student", delete_patterns=["*.safetensors"])
    assert "model.safetensors" not in stored.files
    assert stored.files["LICENSE"] == b"theirs" and "adapter_model.safetensors" in stored.files


@pytest.mark.parametrize("how", [429, 500, "drop"])
@pytest.mark.parametrize("where", ["preupload", "POST /api/models/me/student/commit"])
def test_passing_failures_are_waited_out(hub: FakeHub, folder: Path, where: str, how: int | str) -> None:
    hub.add("me/student")
    hub.failures.append(Failure(where, how, times=2))
    upload(HubRepository("me/student"), folder, commit_message="Student")
    assert len(hub.repositories["models/me/student"].files) == 3


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        (401, PermissionError, "does not accept the token"),
        (403, PermissionError, "may not write"),
        (404, FileNotFoundError, "There is no 'me/student'"),
        (409, OSError, "Somebody else is changing 'me/student'"),
        (429, ConnectionError, "too many requests"),
        (500, ConnectionError, "fault of its own"),
        ("drop", ConnectionError, "cannot be reached"),
    ],
)
def test_an_interrupted_upload_loses_nothing_and_continues(
    hub: FakeHub, folder: Path, how: int | str, kind: type[Exception], message: str
) -> None:
    hub.add("me/student")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    failure = Failure("POST /api/models/me/student/commit", how)
    hub.failures.append(failure)
    with pytest.raises(kind, match=message) as refused:
        upload(HubRepository("me/student"), folder, commit_message="Student")
    if kind is not PermissionError:
        assert "the same command continues" in str(refused.value)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    failure.times = 0
    assert upload(HubRepository("me/student"), folder, commit_message="Student")[1]
    assert len(hub.repositories["models/me/student"].files) == 3


# The client's own way of sending a large file, on the way that it takes without Xet.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_weights_that_arrived_are_not_sent_again(hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without Xet, whose servers are not imitated, large files go one by one before the commit.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    hub.uses_lfs = True
    hub.add("me/student")
    sent, committed = Failure("PUT /objects", 500), Failure("POST /api/models/me/student/commit", 500)
    hub.failures += [sent, committed]
    for failure, reason in ((sent, "fault of its own|broke off"), (committed, "fault of its own")):
        with pytest.raises(ConnectionError, match=reason):
            upload(HubRepository("me/student"), folder, commit_message="Student")
        failure.times = 0
        if failure is sent:
            hub.requests.clear()
    assert sum(request.startswith("PUT /objects") for request in hub.requests) == 1
    upload(HubRepository("me/student"), folder, commit_message="Student")
    assert sum(request.startswith("PUT /objects") for request in hub.requests) == 1
    assert hub.repositories["models/me/student"].files["adapter_model.safetensors"] == b"weights" * 1000


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("Apache 2.0", "apache-2.0"),
        ("Apache License, Version 2.0", "apache-2.0"),
        ("apache-2", "apache-2.0"),
        ("MIT License", "mit"),
        ("CC BY-NC 4.0", "cc-by-nc-4.0"),
        ("GPLv3", "gpl-3.0"),
        ("Llama 3.2", "llama3.2"),
    ],
)
def test_a_license_is_an_identifier_and_the_nearest_is_suggested(given: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"`license` is '{given}'.* Did you mean '{re.escape(nearest)}'"):
        check_license(given)
    check_license(nearest)
    check_license(None)


def test_a_license_like_no_other_is_refused_without_a_guess() -> None:
    with pytest.raises(ValueError, match=r"which is no identifier of a license on the Hub\. They are listed"):
        check_license("Our Company's Terms of Use")
