"""What `import paced_trl` offers, and that it is light."""

from __future__ import annotations

import subprocess
import sys


def test_import_needs_neither_torch_nor_transformers() -> None:
    code = "import sys, paced_trl; sys.exit(bool({'torch', 'transformers', 'datasets', 'trl'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_public_name_can_be_imported() -> None:
    import paced_trl

    for name in paced_trl.__all__:
        assert getattr(paced_trl, name).__name__ == name
