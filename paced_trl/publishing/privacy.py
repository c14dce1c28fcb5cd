"""
What must not be published: keys, e-mail addresses, local paths, the names of the user and of the machine.

Finds them in the files of a directory and refuses the directory by file and line; removes nothing, because nobody has
read a text that was cut. Keys have the patterns of detect-secrets and further prefixes; paths and names are ours.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from detect_secrets.core.plugins.initialize import from_plugin_classname
from safetensors import safe_open


# Names of users and machines that say nothing, and are words of the language.
_COMMON_NAMES = {"root", "user", "users", "admin", "ubuntu", "debian", "runner", "jovyan", "home", "localhost", "vm"}
_SECRET_VARIABLE = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD)$")
_TEXT = {".md", ".json", ".jinja", ".txt", ".yaml", ".jsonl"}
# Full of fragments of words and addresses that belong to nobody.
_VOCABULARIES = {"tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json"}

# Plugins of detect-secrets whose patterns match nothing but keys; its others go by entropy or by names of variables.
_PLUGINS = """
    AWSKeyDetector AzureStorageKeyDetector BasicAuthDetector DiscordBotTokenDetector GitHubTokenDetector
    GitLabTokenDetector JwtTokenDetector MailchimpDetector NpmDetector OpenAIDetector PrivateKeyDetector
    PypiTokenDetector SendGridDetector SlackDetector SquareOAuthDetector StripeDetector TelegramBotTokenDetector
    TwilioKeyDetector
"""
_TOKEN = r"(?=[\w.-]*\d)[\w.-]{20,}"
# What it has no plugin for. A value after `token =` and the like has letters and digits, so that code has none.
_KEYS = (
    rf"\b(?:sk-|xai-|pplx-|nvapi-){_TOKEN}",
    rf"\b(?:github_pat|gsk|r8|npm|dckr_pat|tgp_v1|wandb_v1|dop_v1|rpa|rk_live|whsec|ntn|lin_api|api_org)_{_TOKEN}",
    r"(?i)(?:wandb.{0,40}?|\bpassword\s+)\b[0-9a-f]{40}\b",
    r"\bhf_(?:oauth|jwt)_[\w.-]{20,}|\bfw_[A-Za-z0-9]{24}\b|\bxapp-\d-[\w-]{20,}",
    r"""["']key["']\s*:\s*["'][0-9a-f]{32}["']""",
    r"://:[^\s/@:]{6,}@|[?&;]X-Amz-Signature=[0-9a-f]{32,}",
    r"\bAIza[\w-]{35}",
    rf"\b(?:ya29\.|GOCSPX-|hvs\.){_TOKEN}",
    r"\bdapi[0-9a-f]{32}\b",
    r"BEGIN [A-Z ]*PRIVATE KEY|PuTTY-User-Key-File|AGE-SECRET-KEY-1",
    r"\bssh-(?:rsa|dss|ed25519) AAAA[\w+/=]{20,}",
    r"discord(?:app)?\.com/api/webhooks/\d+/[\w-]{20,}",
    r"[?&;]sig=[\w%+/=-]{40,}",
    r"(?i)\b(?:bearer|basic)\s+(?=[\w.~+/=-]*\d)[\w.~+/=-]{20,}",
    r"(?i)(?:passw(?:or)?d|passphrase|secret|token|(?:api|access|account|auth|client|private|secret)[_-]?key)[\"']?\s*"
    r"[:=]\s*[\"']?(?=[^\s\"']*\d)(?=[^\s\"']*[a-z])[^\s\"'()<>{}\[\],;$]{8,}(?=[\s\"',;}]|$)",
)
# Where a path may begin: not within a word, a URL, a closing tag or a formula. In JSON a new line is written `\n`.
_START = r"(?:(?<![\w.:/<~}$\\^])|(?<=\\n)|(?<=\\t)|(?<=[\w ]:)(?<!://))"
_PERSONAL = (
    "(?:home|Users|root|mnt|p?scratch|workspace|data|lustre|gpfs|nfs|fsx|efs|pfs|afs|beegfs|ceph(?:fs)?|dbfs|Volumes|"
    "nobackup|ptmp|raid|nvme|dev/shm|vast|p/(?:p?scratch|project|home)|private/var/folders)"
)
# Placeholders of documentation.
_NOBODY = r"(?:user(?:name)?|you|your[-_]?name|your[-_]?user(?:name)?|name|me|USER(?:NAME)?)\b"
_PATHS = (
    r"\bfile://+[^\s\"'<>)]+",
    rf"{_START}/{_PERSONAL}\d*/(?!{_NOBODY})[\w.][\w./-]*",
    # Public places as well: only what lies deep in them belongs to somebody.
    rf"{_START}/(?:tmp|var|media|opt|srv|content|projects?|storage|work|shared?|cluster|export|local|vol\d*)/"
    r"(?!log/|lib/|run/|www/|cache/)[\w.-]+/[\w.-][\w./-]*",
    rf"\b[A-Za-z]:(?:\\+|/)(?:Users|data|work|projects?)(?:\\+|/)(?!{_NOBODY}|Public\b)\w+",
    r"(?:^|(?<=[\s\"'=(]))\\\\[\w.-]+\\[\w$.-]+\\[\w$.-]+",
    # scp and ssh; machines behind a firewall
    r"\b[\w.-]+@[\w.-]+:[/~][\w./-]+|\bssh (?:-\w+ \S+ )*[\w.-]+@[\w.-]+",
    r"\b(?:[\w-]+\.)+(?:internal|corp|lan|intranet)\b(?![\w.(])",
    r"://(?:10|192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d{1,3}){2,3}\b",
    rf"(?:^|(?<=[\s\"'=(]))~(?!{_NOBODY})[a-z][\w.-]+/[\w.-]+",
)
# Ends in a domain; `q@k.to(` and `icon@2x.png` do not, and the user of a git remote is nobody.
_ADDRESS = (
    r"(?<![\w.+-])(?!no-?reply@|git@(?:github\.com|gitlab\.com|bitbucket\.org|hf\.co|huggingface\.co)\b)"
    r"[\w.+-]+@(?:[\w-]+\.)+"
    r"(?:com|org|net|edu|gov|mil|int|info|biz|name|app|dev|cloud|tech|xyz|online|site|academy|science|[a-z]{2})"
    r"(?![\w(-]|\.\w)"
)


class PrivateText(NamedTuple):
    """A kind of text that must not be published; what is certain is looked for in vocabularies as well."""

    kind: str
    find: Callable[[str], Iterable[str]]
    is_certain: bool
    is_secret: bool = False


def private_texts(*, namespace: str, directories: Sequence[Path] = ()) -> list[PrivateText]:
    """Return what is private here and now: `namespace` is public, `directories` are not, nor home and working ones."""
    paths = {os.path.abspath(path) for path in (Path.home(), Path.cwd(), *directories)}
    # A home such as `/root` is a word of formulas too: what lies in it is found by `_PATHS`.
    paths = {path for path in paths if path.count(os.sep) > 1}
    secrets = {
        value for name, value in os.environ.items() if _SECRET_VARIABLE.search(name.upper()) and len(value) >= 12
    }
    names = {"your user name": getpass.getuser(), "the name of this machine": socket.gethostname()}
    # They read a string and ask no network.
    plugins: list[Any] = [from_plugin_classname(name) for name in _PLUGINS.split()]
    known = _COMMON_NAMES | {namespace.lower()}
    return [
        PrivateText("a Hub token", _matches(r"\bhf_[A-Za-z0-9]{20,}"), True, True),
        *(PrivateText("a secret of the environment", _matches(re.escape(secret)), True, True) for secret in secrets),
        *(PrivateText(f"a secret ({each.secret_type})", each.analyze_string, True, True) for each in plugins),
        *(PrivateText("a secret (key or password)", _matches(pattern), False, True) for pattern in _KEYS),
        *(PrivateText("a local path", _matches(rf"{re.escape(path)}(?![\w-])"), True) for path in paths),
        *(PrivateText("a local path", _matches(pattern), False) for pattern in _PATHS),
        PrivateText("an e-mail address", _matches(_ADDRESS), False),
        *(
            PrivateText(kind, _matches(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])"), False)
            for kind, name in names.items()
            if len(name) > 2 and name.lower() not in known
        ),
    ]


def _matches(pattern: str) -> Callable[[str], Iterable[str]]:
    compiled = re.compile(pattern)
    return lambda line: (match.group() for match in compiled.finditer(line))


def check_nothing_private(directory: Path, texts: Sequence[PrivateText], *, allowed: Sequence[str] = ()) -> None:
    """Refuse a directory in which a private text stands, by file and line; a secret is never shown."""
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        wanted = [text for text in texts if text.is_certain or path.name not in _VOCABULARIES]
        for place, line in _lines(path):
            for text in wanted:
                for found in text.find(line):
                    if found not in allowed:
                        _refuse(text, found, f"{path.relative_to(directory)}, {place}")


def _refuse(text: PrivateText, found: str, place: str) -> None:
    shown = "" if text.is_secret else f" ({found})"
    remedy = "" if text.is_secret else f", or say that it is meant with `--not_private {found}`"
    raise ValueError(
        f"{text.kind[0].upper()}{text.kind[1:]}{shown} would be published, in {place}. Remove it from the run's files "
        f"or settings{remedy}."
    )


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines of a file with where they stand; of weights what their header says, of a table its texts."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="np") as file:
            yield "header", json.dumps(file.metadata())
    elif path.suffix == ".parquet":
        table = pq.read_table(path)
        for column in table.column_names:
            if pa.types.is_string(table.schema.field(column).type):
                for row, value in enumerate(table[column].to_pylist()):
                    yield f"row {row}, column {column}", value or ""
    elif path.suffix in _TEXT:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            yield f"line {number}", line
