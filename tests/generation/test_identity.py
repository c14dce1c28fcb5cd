"""Which weights these are: fingerprints of directories, adapters and Hub ids, and hashes of contents."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from helpers.byte_level_models import make_model
from paced_trl.generation import identity
from paced_trl.generation.identity import content_hash, weights_fingerprint


# peft 0.21 asks transformers 5.23 for a property under its old name. Can go with the next peft.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def test_fingerprint_is_the_content_and_not_the_place(model_directory: Path, tmp_path: Path) -> None:
    fingerprint = weights_fingerprint(model_directory)
    shutil.copytree(model_directory, tmp_path / "copy")
    assert weights_fingerprint(tmp_path / "copy") == fingerprint
    (tmp_path / "copy" / "trainer_state.json").write_text("{}")
    assert weights_fingerprint(tmp_path / "copy") == fingerprint
    weights = tmp_path / "copy" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert weights_fingerprint(tmp_path / "copy") != fingerprint


def test_fingerprint_of_an_adapter_follows_adapter_and_base(adapter_directory: Path, model_directory: Path) -> None:
    fingerprint = weights_fingerprint(adapter_directory)
    moved = model_directory.rename(model_directory.with_name("moved"))
    config = adapter_directory / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": str(moved)}))
    assert weights_fingerprint(adapter_directory) == fingerprint
    make_model(seed=1).save_pretrained(moved)
    assert weights_fingerprint(adapter_directory) != fingerprint


def test_fingerprint_of_a_hub_id_is_its_commit_when_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789" * 4
    repository = tmp_path / "models--owner--name"
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "snapshots" / commit / "config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert weights_fingerprint("owner/name") == f"owner/name@{commit}"
    assert weights_fingerprint("owner/other", revision="v2") == "owner/other@v2"


def test_content_hash_of_a_large_file_samples_its_first_and_last_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_HASHED_WHOLE_BYTES", 1000)
    monkeypatch.setattr(identity, "_BLOCK_BYTES", 4)
    content = bytes(range(256)) * 8
    hashes = set()
    for changed in (None, 0, 1000, len(content) - 1):
        altered = bytearray(content)
        if changed is not None:
            altered[changed] ^= 1
        (tmp_path / "file").write_bytes(altered)
        hashes.add(content_hash(tmp_path / "file"))
    # Byte 1000 lies between two blocks: the documented blind spot. The other three contents differ.
    assert len(hashes) == 3
