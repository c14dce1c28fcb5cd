"""
The license of a published student: as the user says, or that of the student before training.

Responsible for finding it: in the card that lies beside local weights, else in what the Hub knows of the base model.
Refuses to decide: what is not found is left out of the card, and whether the teacher and the data ask for more is for
whoever publishes. Ours.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import HfApi, ModelCard

from .hub import hub_errors_in_one_sentence


_FIELDS = ("license", "license_name", "license_link")


def license_metadata(
    given: str | None,
    student: str | os.PathLike[str] | None,
    base_model: str | None,
    *,
    ask_hub: bool = False,
    token: str | None = None,
) -> dict[str, str]:
    """
    Return the fields of a model card that name its license.

    Args:
        given (`str`, *optional*): License that the user states, such as `"apache-2.0"`; goes before all else.
        student (`str` or path, *optional*): Where the student before training was loaded from.
        base_model (`str`, *optional*): Its id on the Hub.
        ask_hub (`bool`, *optional*, defaults to `False`): Whether the Hub may be asked.
        token (`str`, *optional*): Token to ask with.

    Returns:
        `dict[str, str]`: Of `license`, `license_name` and `license_link` those that are known; empty if none is.

    Example:

    ```python
    >>> license_metadata("apache-2.0", None, None)
    {'license': 'apache-2.0'}
    ```
    """
    if given is not None:
        return {"license": given}
    metadata = _card_beside(student)
    if metadata.get("license") is None and ask_hub and base_model is not None:
        metadata = _card_on_the_hub(base_model, token)
    found = {name: str(metadata[name]) for name in _FIELDS if metadata.get(name)}
    if "license" not in found:
        return {}
    link = found.get("license_link")
    if link is not None and "://" not in link:
        # A file of the base model's repository, which is not in this one.
        del found["license_link"]
        if base_model is not None:
            found["license_link"] = f"https://huggingface.co/{base_model}/blob/main/{Path(link).name}"
    return found


def _card_beside(student: str | os.PathLike[str] | None) -> dict[str, Any]:
    card = Path(student).expanduser() / "README.md" if student is not None else None
    if card is None or not card.is_file():
        return {}
    try:
        return ModelCard.load(card).data.to_dict()
    except (ValueError, yaml.YAMLError):
        return {}  # no card: any README.md may lie there


def _card_on_the_hub(base_model: str, token: str | None) -> dict[str, Any]:
    """Return what the Hub knows of a model; a license is no reason for a publication to fail."""
    try:
        with hub_errors_in_one_sentence(base_model):
            data = HfApi(token=token, library_name="paced_trl").model_info(base_model).card_data
    except OSError:
        return {}
    return {} if data is None else data.to_dict()
