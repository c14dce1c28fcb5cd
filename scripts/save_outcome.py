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
    outcomes: dict[tuple[str, str], str] = {}
    for file in files[:-1]:
        for case in ElementTree.parse(file).getroot().iter("testcase"):
            kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
            outcome = "skipped" if kinds == {"skipped"} else "failed" if kinds else "passed"
            # A test that was run again counts as it came out last.
            outcomes[str(case.get("classname")), str(case.get("name"))] = outcome
    counts = Counter(outcomes.values())
    by_folder: dict[str, Counter[str]] = {}
    for (module, _), outcome in outcomes.items():
        by_folder.setdefault(re.sub(r"\.test_.*", "", module).replace(".", "/"), Counter())[outcome] += 1
    failed = [f"{module}::{name}" for (module, name), outcome in outcomes.items() if outcome == "failed"]
    versions = {name: version(name) for name in PACKAGES}
    outcome_of = {"versions": {"python": sys.version.split()[0], **versions}, **counts}
    write_json(Path(files[-1]), {**outcome_of, "by_folder": by_folder, "failures": failed})
    print(", ".join(f"{number} {outcome}" for outcome, number in counts.items()), "with", versions)


if __name__ == "__main__":
    main(*sys.argv[1:])
