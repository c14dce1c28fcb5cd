"""
Pass rates as a dataset on the Hub: written from a store, and read in place of one.

A table has a row per problem with its id, a hash of its prompt and solution, and its counts, but no text: whoever has
the problems can train on it, and nobody gets problems that are not ours to give.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, load_dataset
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from ..names import hub_id, public_value
from ..problems import ProblemSet
from ..run_directory import write_json
from ..store.store import VERDICTS, PassRateStore
from ..weighting.counts import check_counts
from .pass_rates import pass_rate_table, read_pass_rates


TABLE = "data/train.parquet"
COMPLETIONS = "completions/train.parquet"
RECORD = "record.json"


def write_pass_rate_dataset(store: PassRateStore, directory: Path, *, completions: bool = False) -> None:
    """Write a store as the files of a Hub dataset, without its card; the completions only where asked for."""
    for name in (TABLE, COMPLETIONS) if completions else (TABLE,):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(published_table(store).with_format("arrow")[:], directory / TABLE)
    if completions:
        everything = store.completions()
        order = [("problem_id", "ascending"), ("generation_index", "ascending")]
        pq.write_table(everything.sort_by(order), directory / COMPLETIONS)
    write_json(directory / RECORD, public_value(store.record))


def published_table(store: PassRateStore) -> Dataset:
    """Return the pass rates of all problems of a store, by id, each with the hash of its prompt and solution."""
    counts = store.generation_counts().sort_by("problem_id")
    table = read_pass_rates(Dataset.from_dict({"problem_id": counts["problem_id"].to_pylist()}), store)
    return table.add_column("problem_hash", counts["problem_hash"].to_pylist())


def names_hub_dataset(pass_rates: str | os.PathLike[str] | None) -> bool:
    """Whether pass rates are named by a dataset id: `USER/NAME`, where there is neither such a path nor its parent."""
    name = None if pass_rates is None else hub_id(os.fspath(pass_rates))
    return name is not None and not Path(name).parent.exists()


def load_pass_rates(name: str, problems: Dataset) -> tuple[Dataset, dict[str, Any]]:
    """Read the pass rates of problems from a dataset on the Hub, as of a store, and its record, empty if unknown."""
    published = _load(name)
    missing = [c for c in ("problem_id", "num_passed", "num_valid") if c not in published.column_names]
    if missing:
        raise ValueError(
            f"The dataset {name!r} has no column `{missing[0]}`, so it holds no pass rates; it has "
            f"{', '.join(published.column_names)}. Name one that `paced-trl publish` made, or a directory."
        )
    _check_same_problems(published, problems, name)
    passed, valid = check_counts(published["num_passed"][:], published["num_valid"][:])
    columns = {"problem_id": [str(problem_id) for problem_id in published["problem_id"][:]], "num_passed": passed}
    if all(f"num_{verdict}" in published.column_names for verdict in VERDICTS):
        others = {f"num_{verdict}": published[f"num_{verdict}"][:] for verdict in VERDICTS if verdict != "passed"}
    else:
        others = {f"num_{verdict}": np.zeros_like(passed) for verdict in VERDICTS if verdict != "passed"}
        others["num_failed"] = valid - passed
    has_tokens = "num_tokens" in published.column_names
    tokens = published["num_tokens"][:] if has_tokens else np.zeros_like(passed)
    counts = pa.table({**columns, **others, "num_tokens": tokens})
    problem_ids = [str(problem_id) for problem_id in problems["problem_id"][:]]
    return pass_rate_table(problem_ids, counts), _record(name)


def _load(name: str) -> Dataset:
    try:
        return load_dataset(name, split="train")
    except DatasetNotFoundError as error:
        raise ValueError(
            f"`pass_rates` names {name!r}, which is neither a directory here nor a dataset on the Hub that can be "
            f"seen. Correct the name, or write './{name}' for a store that is still to be made."
        ) from error
    except (ConnectionError, OSError) as error:
        raise ConnectionError(
            f"`pass_rates` names {name!r}, which is no directory here, and the Hub cannot be reached for it "
            f"({type(error).__name__}). Go online, or write './{name}' for a store that is still to be made."
        ) from error


def _record(name: str) -> dict[str, Any]:
    try:
        path = hf_hub_download(name, RECORD, repo_type="dataset")
    except (EntryNotFoundError, LocalEntryNotFoundError):
        return {}
    return json.loads(Path(path).read_text(encoding="utf-8"))


def _check_same_problems(published: Dataset, problems: Dataset, name: str) -> None:
    if "problem_hash" not in published.column_names:
        return
    known = dict(zip(published["problem_id"][:], published["problem_hash"][:], strict=True))
    checked = ProblemSet(problems)
    for problem_id, digest in zip(checked.ids, checked.hashes, strict=True):
        if known.get(problem_id) not in (None, digest):
            raise ValueError(
                f"The problem {problem_id!r} has another prompt or solution than the one whose pass rate {name!r} "
                "holds. Use the same data, prompt options included, or measure with `paced-trl estimate`."
            )
