"""What must not be published: found in 70 texts, and not seen in 35 harmless ones."""

from __future__ import annotations

import base64
import getpass
import json
import socket
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from helpers.fake_hub import TOKEN
from paced_trl.publishing.privacy import check_nothing_private, private_texts


def made(*parts: str) -> str:
    """Join what is split here, so that no scanner takes this file for a leak."""
    return "".join(parts)


HEX, LETTERS = "0123456789abcdef" * 4, "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0z" * 3
_JWT = ".".join(
    base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
    for part in ({"alg": "HS256", "typ": "JWT"}, {"sub": "1234567890", "name": "Jane"})
)

SECRETS = {
    "Hub token": made("hf", "_", LETTERS[:34]),
    "Hub token in a URL": made("https://user:hf", "_", LETTERS[:34], "@huggingface.co/x"),
    "AWS key id": made("AKI", "A", "IOSFODNN7EXAMPLF"),
    "AWS secret": made('aws_secret_key = "', LETTERS[:40], '"'),
    "GitHub classic": made("gh", "p_", LETTERS[:36]),
    "GitHub server": made("gh", "s_", LETTERS[:36]),
    "GitHub fine-grained": made("github", "_pat_", LETTERS[:22], "_", LETTERS[:59]),
    "GitLab": made("glp", "at-", LETTERS[:20]),
    "OpenAI, old form": made("sk", "-", LETTERS[:20], "T3Blbk", "FJ", LETTERS[:20]),
    "OpenAI, project": made("sk", "-proj-", LETTERS[:60]),
    "Anthropic": made("sk", "-ant-api03-", LETTERS[:60]),
    "wandb variable": made("WANDB_API", "_KEY=", HEX[:40]),
    "wandb in netrc": made("machine api.wandb.ai login user password ", HEX[:40]),
    "Google": made("AIz", "a", LETTERS[:35]),
    "Groq": made("gs", "k_", LETTERS[:52]),
    "Replicate": made("r", "8_", LETTERS[:37]),
    "Databricks": made("da", "pi", HEX[:32]),
    "Slack": made("xox", "b-123456789012-123456789012-", LETTERS[:24].lower()),
    "Slack webhook": made("https://hooks.slack", ".com/services/T00000000/B00000000/", LETTERS[:24]),
    "Stripe": made("sk_", "live_", LETTERS[:24]),
    "SendGrid": made("S", "G.", LETTERS[:22], ".", LETTERS[:43]),
    "PyPI": made("pypi-", "AgEIcHlwaS5vcmc", LETTERS[:80]),
    "npm": made("np", "m_", LETTERS[:36]),
    "Telegram": made("123456789", ":", LETTERS[:35]),
    "Azure": made("Account", "Key=", LETTERS[:86], "=="),
    "JWT": made(_JWT, ".", LETTERS[:43]),
    "bearer": made("Authorization: Bear", "er ", LETTERS[:40]),
    "RSA key": made("-----BEGIN RSA PRIV", "ATE KEY-----"),
    "OpenSSH key": made("-----BEGIN OPENSSH PRIV", "ATE KEY-----"),
    "encrypted key": made("-----BEGIN ENCRYPTED PRIV", "ATE KEY-----"),
    "password in a URL": made("postgres://jane:", "hunter2x", "@db.internal:5432/runs"),
    "password assigned": made("pass", "word: ", "hunter2-forever"),
    "home": "/home/jane/models/student",
    "home in JSON": '{"text": "see\\n/home/jane/models"}',
    "macOS": "/Users/jane/models",
    "Windows": "C:\\\\Users\\\\jane\\\\models",
    "root's cache": "/root/.cache/huggingface/hub",
    "data": "/data/jane/runs/student",
    "lustre": "path=/lustre/fsw/team/jane",
    "gpfs": "/gpfs/projects/team/x.jsonl",
    "scratch": "'/scratch/jane/run'",
    "file URL": "file:///work/jane/x.jsonl",
    "network share": "\\\\fileserver\\team\\x.jsonl",
    "address": "Jane <jane.doe+x@example.co.uk>",
    "copied by scp": "jane@login1:/lustre/team/run",
}
FURTHER_SECRETS = {
    "Hub OAuth": made("hf", "_oauth_", LETTERS[:40]),
    "AWS, for a session": made("ASI", "AIOSFODNN7EXAMPLF"),
    "GitHub refresh": made("gh", "r_", LETTERS[:76]),
    "OpenAI, service account": made("sk", "-svcacct-", LETTERS[:60]),
    "OpenRouter": made("sk", "-or-v1-", HEX),
    "Fireworks": made("f", "w_", LETTERS[:24]),
    "Kaggle": made('{"username":"jane","key":"', HEX[:32], '"}'),
    "wandb, a line of netrc": made("  pass", "word ", HEX[:40]),
    "Mistral": made("MISTRAL_API", "_KEY=", LETTERS[:32]),
    "Gemini": made("GEMINI_API", "_KEY=AIz", "a", LETTERS[:35]),
    "MLflow": made("MLFLOW_TRACKING_PASS", "WORD=Tr4cking-", LETTERS[:8]),
    "Slack app": made("xa", "pp-1-A0123456789-1234567890123-", HEX),
    "Stripe, restricted": made("rk_", "live_", LETTERS[:24]),
    "PGP key": made("-----BEGIN PGP PRIV", "ATE KEY BLOCK-----"),
    "Redis": made("redis://:", "p4ssw0rd9", "@cache:6379/0"),
    "signed URL": made("https://b.s3.amazonaws.com/x?X-Amz-Sig", "nature=", HEX),
    "basic authorization": made("Authorization: Bas", "ic ", LETTERS[:32], "="),
    "a second disk": "/data2/jdoe/x",
    "vast": "/vast/jdoe/data",
    "a national centre": "/p/scratch/ccstao/jdoe",
    "another's home": "see ~jdoe/models",
    "macOS, temporary": "/private/var/folders/zz/abc/T/tmpx",
    "network address": "http://10.12.0.7:8000/v1",
    "machine behind a firewall": "http://gpu-17.example.internal:8000/v1",
    "ssh": "ssh jdoe@login.hpc.uni-x.edu",
}

HARMLESS = [
    r"The length is $\sqrt[3]{x}/root/2$.",
    r"\frac{a}{b}/root/x and n^{1/2}/data/y",
    "the square/root/cube of 8",
    "git clone git@github.com:huggingface/trl.git",
    "pip install git+https://github.com/org/repo@main",
    "https://huggingface.co/home/jane and https://example.com/data/x/y.json",
    "</think> and <br/> and a/b/c and 3/4/5",
    "#!/usr/bin/env python, /dev/null, /etc/hosts, /proc/cpuinfo",
    "with open('/tmp/out.txt') as file:",
    "tail /var/log/syslog",
    "scores = q@k.transpose(-2, -1); y = (X @ W.T)@v.to(device)",
    "@property def x(self); @app.route('/home/'); @article{xu2026paced}",
    "icon@2x.png and jquery@3.7.1",
    "a@b and 5 @ 3.50 each",
    "hf_hub_download, sk-learn, ghp_ and AKIA are prefixes",
    "the commit 6dcd4ce23d88e2ee9568ba546c007c63d9131c1b",
    "sha256:" + HEX,
    "token = tokenizer.pad_token_id; eos_token: <|im_end|>",
    "password = input('Password: ')",
    "api_key = os.environ['API_KEY']",
    "The secret: practice. A token of thanks, a bearer of news.",
    "replace /home/user/data or C:\\Users\\username with your own directory",
    "GET /content/42 and POST /media/upload",
    "-----BEGIN PUBLIC KEY-----",
    "num_tokens: 12345678, temperature=0.7, learning_rate: 3.0e-5, K=8, secret_number = 48151623",
]
FURTHER_HARMLESS = [
    r"Find \data{x}/root/3 of it, and \begin{align} x &= y/home \end{align}",
    r"use \texttt{/usr/bin/python3} and /usr/local/lib, C:\Windows\System32",
    "for key in keys: token = key; if password == secret: pass",
    "The password is a 4-digit number with sum 10; the key: 5.",
    "The secret key of RSA is d = e^{-1} mod 55",
    "uuid 123e4567-e89b-12d3-a456-426614174000, md5 d41d8cd98f00b204e9800998ecf8427e",
    "bearer of 20 gifts; basic arithmetic 12345678901234567890",
    "export HF_TOKEN=<your token>; API_KEY=your_api_key_here; password: ********",
    "the time is ~5/6 of an hour, x ~ y/z, ~/.cache/huggingface",
    "ratio 10.5.3:2, version 10.0.0.1, https://10times.com/x",
]


def is_refused(text: str, directory: Path) -> bool:
    (directory / "README.md").write_text(text)
    try:
        check_nothing_private(directory, private_texts(namespace="me"))
    except ValueError:
        return True
    return False


def test_the_lists_are_as_long_as_promised() -> None:
    assert (len({**SECRETS, **FURTHER_SECRETS}), len({*HARMLESS, *FURTHER_HARMLESS})) == (70, 35)


@pytest.mark.parametrize("name", [*SECRETS, *FURTHER_SECRETS])
def test_secrets_are_found(name: str, tmp_path: Path) -> None:
    secret = (SECRETS | FURTHER_SECRETS)[name]
    for text in (secret, f"before {secret} after"):
        assert is_refused(text, tmp_path)


@pytest.mark.parametrize("text", [*HARMLESS, *FURTHER_HARMLESS])
def test_harmless_texts_are_not_stopped(text: str, tmp_path: Path) -> None:
    assert not is_refused(text, tmp_path)


def test_a_key_is_named_by_its_kind_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("a: 1\nkey: " + SECRETS["GitHub classic"])
    with pytest.raises(
        ValueError, match=r"A secret \(GitHub Token\) would be published, in recipe.yaml, line 2"
    ) as refused:
        check_nothing_private(tmp_path, private_texts(namespace="me"))
    assert SECRETS["GitHub classic"] not in str(refused.value) and "--not_private" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("token " + TOKEN, "A Hub token would be published"),
        ("write to jane.doe+x@example.co.uk", r"An e-mail address \(jane.doe\+x@example.co.uk\)"),
        ("see /home/jane/data", r"A local path \(/home/jane/data\)"),
        ("see /Users/jane/data", "A local path"),
        ("see C:\\Users\\jane", "A local path"),
        ("see /mnt/disk/data", "A local path"),
        ("by some-person", "Your user name"),
        ("on build-machine-7", "The name of this machine"),
        ("key 0123456789abcdef", "A secret of the environment"),
    ],
)
def test_private_texts_are_refused_by_file_and_line(
    text: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "some-person")
    monkeypatch.setattr(socket, "gethostname", lambda: "build-machine-7")
    monkeypatch.setenv("SOME_API_KEY", "0123456789abcdef")
    (tmp_path / "README.md").write_text(f"# Card\n\n{text}\n")
    with pytest.raises(ValueError, match=f"{kind}.*README.md, line 3") as refused:
        check_nothing_private(tmp_path, private_texts(namespace="me"))
    assert TOKEN not in str(refused.value) and "0123456789abcdef" not in str(refused.value)


def test_what_is_public_is_not_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "jane")
    text = "jane/model, https://huggingface.co/home/x, 3/4/5, a@b, hf_hub, @article{xu2026paced, </think>\n"
    (tmp_path / "README.md").write_text(text)
    check_nothing_private(tmp_path, private_texts(namespace="jane"))
    (tmp_path / "README.md").write_text("ask help@example.org\n")
    check_nothing_private(tmp_path, private_texts(namespace="jane"), allowed=["help@example.org"])
    # A vocabulary has pieces of everything; a token in it would still be one.
    (tmp_path / "README.md").unlink()
    (tmp_path / "tokenizer.json").write_text("jane a@example.org")
    check_nothing_private(tmp_path, private_texts(namespace="me"))
    (tmp_path / "tokenizer.json").write_text(TOKEN)
    with pytest.raises(ValueError, match="A Hub token"):
        check_nothing_private(tmp_path, private_texts(namespace="me"))


def test_private_texts_in_weights_and_tables_are_found(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors", metadata={"from": "/home/jane/model"})
    with pytest.raises(ValueError, match=r"model.safetensors, header"):
        check_nothing_private(tmp_path, private_texts(namespace="me"))
    (tmp_path / "model.safetensors").unlink()
    pq.write_table(pa.table({"n": [1, 2], "completion": ["4", "ask jane@example.org"]}), tmp_path / "train.parquet")
    with pytest.raises(ValueError, match=r"train.parquet, row 1, column completion.*--not_private jane@example.org"):
        check_nothing_private(tmp_path, private_texts(namespace="me"))
