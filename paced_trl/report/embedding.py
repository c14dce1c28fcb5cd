"""
What the page carries inside itself beside HTML: scripts, style and data, such that nobody's text becomes any of them.

Responsible for reading `static/`, for the hashes by which the page's policy allows its own scripts, and for writing
data into a script element. `static/` holds d3 and Observable Plot as they were published, with their licences. Ours.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
from collections.abc import Iterable
from typing import Any

from markupsafe import Markup


# In a script element nothing is escaped by the parser, and all of these are legal inside JSON's strings only.
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}


def static_text(name: str) -> Markup:
    """Return a file of `static/`, to stand in the page as it is."""
    text = importlib.resources.files("paced_trl.report").joinpath("static", name).read_text(encoding="utf-8")
    # Browsers hash what they have parsed, and they parse every line end as a line feed.
    return Markup(text.replace("\r\n", "\n"))


def policy_hashes(scripts: Iterable[str]) -> Markup:
    """Return the sources of a `script-src` directive that allows these scripts and no others."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    return Markup(" ".join(f"'sha256-{digest}'" for digest in digests))


def as_script_data(value: Any) -> Markup:
    """
    Return JSON for a `<script type="application/json">`, which no text inside it can end.

    All of it is ASCII, so that line separators, control characters and lone surrogates are spelled out as well.

    Example:

    ```python
    >>> print(as_script_data({"text": "</script>"}))
    {"text":"\\u003c/script\\u003e"}
    ```
    """
    return Markup(json.dumps(value, separators=(",", ":"), allow_nan=False).translate(_ESCAPES))
