"""
The Hub: whether a repository can be written to, asked before anything expensive, and the upload itself.

Responsible for the pre-flight, for uploads that can be repeated, and for one sentence per error. What is uploaded, and
that nothing private is in it, is for `publication.py`. All requests are `huggingface_hub`'s; ours is what is asked and
in which order. Not part of the paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx2
from huggingface_hub import HfApi, is_offline_mode
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id


_LATER = "or publish later with `paced-trl publish --run RUN --repo USER/NAME`: a finished run keeps all it takes."
_WRITING_ROLES = ("admin", "write", "contributor")


@dataclass(frozen=True)
class HubRepository:
    """
    A repository that may be written to.

    Args:
        repo_id (`str`): `USER/NAME`.
        repo_type (`"model"` or `"dataset"`, *optional*, defaults to `"model"`): Kind of the repository.
        token (`str`, *optional*): Token to write with. `None`: the one of `hf auth login` or `HF_TOKEN`.
    """

    repo_id: str
    repo_type: Literal["model", "dataset"] = "model"
    token: str | None = field(default=None, repr=False)

    @property
    def namespace(self) -> str:
        """The user or organisation it belongs to."""
        return self.repo_id.split("/")[0]


def check_repository(
    name: str,
    *,
    repo_type: Literal["model", "dataset"] = "model",
    private: bool = True,
    token: str | None = None,
) -> HubRepository:
    """
    Make sure that a repository can be written to: the name, the token, its rights, the repository, in this order.

    A repository that does not exist is created, as the Trainer does: what else would show that it can be.

    Args:
        name (`str`): `USER/NAME`, or `NAME` for a repository of the token's owner.
        repo_type (`"model"` or `"dataset"`, *optional*, defaults to `"model"`): Kind of the repository.
        private (`bool`, *optional*, defaults to `True`):
            Whether others must not see it. A repository that exists keeps its visibility, and a public one is refused.
        token (`str`, *optional*): Token to write with. `None`: the one of `hf auth login` or `HF_TOKEN`.

    Returns:
        [`HubRepository`]

    Raises:
        ValueError: If the name cannot be one, or the repository is public and should not be.
        PermissionError: If there is no token, or it may not write there.
        ConnectionError: If the Hub cannot be reached.
        OSError: If the Hub refuses for another reason.

    Example:

    ```python
    >>> check_repository("me/student-paced")
    HubRepository(repo_id='me/student-paced', repo_type='model')
    ```
    """
    check_name(name)
    if is_offline_mode():
        raise ConnectionError(f"{name!r} cannot be reached: offline mode is on (HF_HUB_OFFLINE). Unset it, {_LATER}")
    api = HfApi(token=token, library_name="paced_trl")
    with hub_errors_in_one_sentence(name):
        owner = api.whoami()
    _check_role(owner)
    repo_id = name if "/" in name else f"{owner['name']}/{name}"
    _check_namespace(repo_id, owner)
    with hub_errors_in_one_sentence(repo_id):
        try:
            found = api.repo_info(repo_id, repo_type=repo_type)
        except RepositoryNotFoundError:
            api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
        else:
            if private and not found.private:
                raise ValueError(
                    f"The repository {repo_id!r} exists and is public, and what is published is private unless you "
                    "say otherwise. Give `--public` (`hub_private_repo: false` in training), or another name."
                )
        api.auth_check(repo_id, repo_type=repo_type, write=True)
    return HubRepository(repo_id, repo_type, token)


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a repository."""
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        reason = str(error).removesuffix(".")
        raise ValueError(f"{name!r} cannot be a repository on the Hub: {reason}. Name it USER/NAME.") from error


def _check_role(owner: dict[str, Any]) -> None:
    token = owner.get("auth", {}).get("accessToken", {})
    role = token.get("role")
    if role == "fineGrained":
        scopes = token.get("fineGrained", {})
        permissions = [p for scope in scopes.get("scoped", []) for p in scope["permissions"]]
        may_write = "repo.write" in [*permissions, *scopes.get("global", [])]
    else:
        may_write = role != "read"
    if not may_write:
        raise PermissionError(
            f"The Hub token of {owner['name']!r} may only read. Make one that may write at "
            "https://huggingface.co/settings/tokens and give it to `hf auth login` or HF_TOKEN."
        )


def _check_namespace(repo_id: str, owner: dict[str, Any]) -> None:
    namespace = repo_id.split("/")[0]
    roles = {organization["name"]: organization.get("roleInOrg") for organization in owner.get("orgs", [])}
    if namespace == owner["name"] or (namespace in roles and roles[namespace] in (None, *_WRITING_ROLES)):
        return
    places = [owner["name"], *(name for name, role in roles.items() if role in (None, *_WRITING_ROLES))]
    raise PermissionError(
        f"The Hub token belongs to {owner['name']!r}, who may not write to {namespace!r}, so {repo_id!r} cannot be "
        f"published. Publish to {' or '.join(places)}, or log in as a member who may write."
    )


def upload(
    repository: HubRepository, folder: Path, *, commit_message: str, delete_patterns: Sequence[str] = ()
) -> tuple[str, bool]:
    """
    Bring a repository to the state of a directory, as far as the directory goes.

    What the repository holds already is not sent again, so the same call continues after any interruption, and makes
    no commit where nothing has changed.

    Args:
        repository ([`HubRepository`]): Where to.
        folder (`Path`): What to upload, all of it.
        commit_message (`str`): Message of the commit.
        delete_patterns (`Sequence[str]`, *optional*):
            Files in the repository that go if `folder` does not have them. Others are left alone.

    Returns:
        `tuple[str, bool]`: Address of the latest commit, and whether it is new.

    Raises:
        PermissionError, ConnectionError, OSError: As in [`check_repository`].
    """
    api = HfApi(token=repository.token, library_name="paced_trl")
    kept = f"Nothing is lost: {str(folder)!r} holds what was to be uploaded, and the same command continues."
    with hub_errors_in_one_sentence(repository.repo_id, kept):
        before = api.repo_info(repository.repo_id, repo_type=repository.repo_type).sha
        commit = api.upload_folder(
            repo_id=repository.repo_id,
            repo_type=repository.repo_type,
            folder_path=folder,
            commit_message=commit_message,
            delete_patterns=list(delete_patterns) or None,
        )
    return commit.commit_url, commit.oid != before


@contextmanager
def hub_errors_in_one_sentence(repo_id: str, advice: str = "") -> Iterator[None]:
    """
    Say what went wrong with a repository and what to do about it.

    Args:
        repo_id (`str`): The repository.
        advice (`str`, *optional*): What to add where trying again later may help.
    """
    advice = advice or f"Try again later, {_LATER}"
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise PermissionError(
            f"There is no Hub token, so {repo_id!r} cannot be written to. Run `hf auth login`, or set HF_TOKEN."
        ) from error
    except OfflineModeIsEnabled as error:
        raise ConnectionError(
            f"{repo_id!r} cannot be reached: offline mode is on (HF_HUB_OFFLINE). {advice}"
        ) from error
    except HfHubHTTPError as error:
        raise _refusal(error, repo_id, advice) from error
    except httpx2.HTTPError as error:
        reason = str(error).removesuffix(".") or type(error).__name__
        raise ConnectionError(f"The Hub cannot be reached for {repo_id!r} ({reason}). {advice}") from error
    except RuntimeError as error:
        # How the client says that a large file did not arrive.
        if isinstance(error.__cause__, HfHubHTTPError):
            raise _refusal(error.__cause__, repo_id, advice) from error
        reason = str(error).removesuffix(".")
        raise ConnectionError(f"The upload to {repo_id!r} broke off ({reason}). {advice}") from error


def _refusal(error: HfHubHTTPError, repo_id: str, advice: str) -> OSError:
    status = error.response.status_code
    if status == 401:
        return PermissionError(
            f"The Hub does not accept the token for {repo_id!r} (401). Run `hf auth login` with a valid one, or set "
            "HF_TOKEN, which goes first where both are there."
        )
    if status == 403:
        return PermissionError(
            f"The Hub token may not write to {repo_id!r} (403). Give it write access at "
            "https://huggingface.co/settings/tokens, or choose a repository of your own."
        )
    if status == 404:
        return FileNotFoundError(f"There is no {repo_id!r} on the Hub, or the token may not see it (404). {advice}")
    if status in (409, 412):
        return OSError(f"Somebody else is changing {repo_id!r} on the Hub ({status}). {advice}")
    if status == 429:
        wait = error.response.headers.get("Retry-After")
        when = f"; it asks to wait {wait} s" if wait else ""
        return ConnectionError(f"The Hub has had too many requests (429){when}. {advice}")
    if status >= 500:
        return ConnectionError(f"The Hub has a fault of its own ({status}). {advice}")
    return OSError(
        f"The Hub refused the request for {repo_id!r} ({status}): {error.server_message or error}. {advice}"
    )
