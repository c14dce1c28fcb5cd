"""
Write what came of runs of pytest, and with which versions.

    python scripts/save_outcome.py OUTCOME.xml [FURTHER.xml ...] RESULT.json     # files of pytest's `--junitxml`
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

from paced_trl.run_directory import write_json


PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "numpy", "pyarrow", "bitsandbytes")


def main(*files: str) -> None:
    counts: Counter[str] = Counter()
    by_folder: dict[str, Counter[str]] = {}
    failed: list[str] = []
    for file in files[:-1]:
        for case in ElementTree.parse(file).getroot().iter("testcase"):
            kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
            outcome = "skipped" if kinds == {"skipped"} else "failed" if kinds else "passed"
            name = str(case.get("classname"))
            folder = re.sub(r"\.test_.*", "", name).replace(".", "/")
            counts[outcome] += 1
            by_folder.setdefault(folder, Counter())[outcome] += 1
            if outcome == "failed":
                failed.append(f"{name}::{case.get('name')}")
    versions = {name: version(name) for name in PACKAGES}
    outcome_of = {"versions": {"python": sys.version.split()[0], **versions}, **counts}
    write_json(Path(files[-1]), {**outcome_of, "by_folder": by_folder, "failures": failed})
    print(", ".join(f"{number} {outcome}" for outcome, number in counts.items()), "with", versions)


if __name__ == "__main__":
    main(*sys.argv[1:])
