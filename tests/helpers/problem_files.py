"""Problems in files of every format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from datasets import Dataset


ROWS = [{"question": "1+1=", "answer": 2, "source": "a"}, {"question": "1+2=", "answer": 3, "source": "b"}]
COLUMNS = {"prompt_column": "question", "solution_column": "answer"}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    if path.suffix in (".json", ".jsonl"):
        path.write_text("\n".join(json.dumps(row) for row in rows))
    elif path.suffix == ".csv":
        Dataset.from_list(rows).to_csv(path)
    elif path.suffix == ".parquet":
        Dataset.from_list(rows).to_parquet(path)
    else:
        Dataset.from_list(rows).save_to_disk(path)
    return str(path)
