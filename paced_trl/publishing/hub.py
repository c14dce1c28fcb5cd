"""
The Hub: whether a repository can be written to, asked before anything expensive, and the upload.

Every error of `huggingface_hub` becomes one sentence that says what to do. What is uploaded is for `publish.py`.
"""

from __future__ import annotations

import re
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

from ..names import did_you_mean


_LATER = "or publish later with `paced-trl publish --run RUN --repo USER/NAME`: a finished run keeps all it takes."
# What the Hub takes as `license` of a card: https://huggingface.co/docs/hub/repositories-licenses
_LICENSES = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
    lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
    openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
    fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 gemma unknown other
"""
_WRITING_ROLES = (None, "admin", "write", "contributor")


@dataclass(frozen=True)
class HubRepository:
    """A repository that may be written to, with the token to write with (None: that of `hf auth login`)."""

    repo_id: str
    repo_type: Literal["model", "dataset"] = "model"
    token: str | None = field(default=None, repr=False)


def check_repository(
    name: str,
    *,
    repo_type: Literal["model", "dataset"] = "model",
    private: bool = True,
    token: str | None = None,
) -> HubRepository:
    """Refuse a repository that cannot be written to, and create the one that does not exist; `NAME` is the owner's."""
    check_name(name)
    if is_offline_mode():
        raise ConnectionError(f"{name!r} cannot be reached: offline mode is on (HF_HUB_OFFLINE). Unset it, {_LATER}")
    api = HfApi(token=token, library_name="paced_trl")
    with hub_errors_in_one_sentence(name):
        owner = api.whoami()
    repo_id = name if "/" in name else f"{owner['name']}/{name}"
    _check_owner(repo_id, owner)
    with hub_errors_in_one_sentence(repo_id):
        try:
            is_public = not api.repo_info(repo_id, repo_type=repo_type).private
        except RepositoryNotFoundError:
            # Nothing else shows that it can be created.
            api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
            is_public = not private
        if private and is_public:
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


def check_license(name: str | None) -> None:
    """Refuse what is no identifier of a license on the Hub, and suggest the nearest."""
    known = _LICENSES.split()
    if name is None or name in known:
        return
    # "Apache License, Version 2.0" -> apache-2.0; "GPLv3" -> gpl-3
    words = re.sub(r"(?i)\b(?:the|licen[sc]e|version|public|general)\b|[,()]|(?<=[a-z ])v(?=\d)", " ", name)
    hint = did_you_mean("-".join(words.lower().split()), known)
    raise ValueError(
        f"`license` is {name!r}, which is no identifier of a license on the Hub.{hint} They are listed at "
        "https://huggingface.co/docs/hub/repositories-licenses; `other` stands for one that is not."
    )


def _check_owner(repo_id: str, owner: dict[str, Any]) -> None:
    """Refuse a token that reads only, and a namespace its owner may not write to, before a repository is touched."""
    token = owner.get("auth", {}).get("accessToken", {})
    scopes = token.get("fineGrained", {})
    permissions = [*scopes.get("global", []), *(p for scope in scopes.get("scoped", []) for p in scope["permissions"])]
    if token.get("role") == "read" or (token.get("role") == "fineGrained" and "repo.write" not in permissions):
        raise PermissionError(
            f"The Hub token of {owner['name']!r} may only read. Make one that may write at "
            "https://huggingface.co/settings/tokens and give it to `hf auth login` or HF_TOKEN."
        )
    organisations = [org["name"] for org in owner.get("orgs", []) if org.get("roleInOrg") in _WRITING_ROLES]
    namespace, places = repo_id.split("/")[0], [owner["name"], *organisations]
    if namespace not in places:
        raise PermissionError(
            f"The Hub token belongs to {owner['name']!r}, who may not write to {namespace!r}, so {repo_id!r} cannot "
            f"be published. Publish to {' or '.join(places)}, or log in as a member who may write."
        )


def upload(
    repository: HubRepository, folder: Path, *, commit_message: str, delete_patterns: Sequence[str] = ()
) -> tuple[str, bool]:
    """Bring a repository to the state of a directory; return the latest commit's address and whether it is new."""
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
    """Say what went wrong with a repository and what to do; `advice` is added where trying again may help."""
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
    except (HfHubHTTPError, httpx2.HTTPError, RuntimeError) as error:
        # By a RuntimeError the client says that a large file did not arrive.
        is_broken_off = isinstance(error, RuntimeError)
        what = (
            f"The upload to {repo_id!r} broke off" if is_broken_off else f"The Hub cannot be reached for {repo_id!r}"
        )
        cause = error.__cause__ if is_broken_off else error
        if isinstance(cause, HfHubHTTPError):
            raise _refusal(cause, repo_id, advice) from error
        reason = str(error).removesuffix(".") or type(error).__name__
        raise ConnectionError(f"{what} ({reason}). {advice}") from error


def _refusal(error: HfHubHTTPError, repo_id: str, advice: str) -> OSError:
    status, wait = error.response.status_code, error.response.headers.get("Retry-After")
    asks = f"; it asks to wait {wait} s" if wait else ""
    match status:
        case 401:
            return PermissionError(
                f"The Hub does not accept the token for {repo_id!r} (401). Run `hf auth login` with a valid one, or "
                "set HF_TOKEN, which goes first where both are there."
            )
        case 403:
            return PermissionError(
                f"The Hub token may not write to {repo_id!r} (403). Give it write access at "
                "https://huggingface.co/settings/tokens, or choose a repository of your own."
            )
        case 404:
            return FileNotFoundError(
                f"There is no {repo_id!r} on the Hub, or the token may not see it (404). {advice}"
            )
        case 409 | 412:
            return OSError(f"Somebody else is changing {repo_id!r} on the Hub ({status}). {advice}")
        case 429:
            return ConnectionError(f"The Hub has had too many requests (429){asks}. {advice}")
    if status >= 500:
        return ConnectionError(f"The Hub has a fault of its own ({status}). {advice}")
    reason = error.server_message or error
    return OSError(f"The Hub refused the request for {repo_id!r} ({status}). {reason}. {advice}")
