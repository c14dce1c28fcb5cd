"""
A verifier by its name: rows go to worker processes, and verdicts come back in their order.

How an answer is read and compared is in the `NAME_check.py` modules. Whether a completion was cut off is for the
caller to say.
"""

from __future__ import annotations

import importlib.util
import inspect
import logging
import os
import pkgutil
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..names import did_you_mean
from ..setting_checks import check_value
from ..settings import VERIFIERS
from .check import Check, Messages, Row, completion_text
from .verdict import Verdict
from .worker_pool import Failure, WorkerPool


logger = logging.getLogger(__name__)


class Verifier:
    """
    Give verdicts. Made by [`load_verifier`].

    It owns worker processes, so close it or use it as a context manager. They start at the first call, are reused, and
    end with the parent in any case. Can be called from any thread; calls from several threads take turns.

    Attributes:
        name (`str`): What [`load_verifier`] was given.
        record (`dict`):
            JSON-able: the name and the options that a verdict depends on. Belongs to a pass-rate store's fingerprint.
    """

    is_thread_safe = True

    def __init__(self, name: str, record: dict[str, Any], check: Check, pool: WorkerPool | None) -> None:
        self.name = name
        self.record = record
        self._check = check
        self._pool = pool
        self._has_logged_failure = False

    def __call__(
        self, completions: Sequence[str | Messages], solutions: Sequence[Any], /, **columns: Any
    ) -> list[Verdict]:
        """
        Judge completions.

        Args:
            completions (`Sequence` of `str` or of lists of messages, **shape (B,)**):
                What the student wrote. Of messages, the last one counts.
            solutions (`Sequence`, **shape (B,)**): The gold of each completion's problem.
            **columns (`Sequence`, **shape (B,)**):
                Further columns of the problems. Those that the verifier does not need are ignored.

        Returns:
            `list[Verdict]`: In the order of `completions`.

        Raises:
            ValueError: If lengths differ, a needed column is missing, or a reward function returns no list of numbers
                in [0, 1], one per completion.
            TypeError: If a completion is neither text nor a list of messages.
        """
        if len(completions) != len(solutions):
            raise ValueError(
                f"Got {len(completions)} completions and {len(solutions)} solutions; each completion needs the "
                "solution of its own problem."
            )
        if not self._check.wants_messages:
            completions = [completion_text(completion) for completion in completions]
        return self._verdicts("verify", self._rows(completions, solutions, columns))

    def check_solutions(self, solutions: Sequence[Any], /, **columns: Any) -> list[Verdict]:
        """
        Verify each gold against itself, before anything is generated for its problem.

        Args:
            solutions (`Sequence`, **shape (P,)**): The golds.
            **columns (`Sequence`, **shape (P,)**): Further columns of the problems, as when verifying.

        Returns:
            `list[Verdict]`: `PASSED` where the gold is usable. Else `UNVERIFIABLE`, or `TIMEOUT` where reading it took
            too long: no completion of that problem could get a verdict worth counting.
        """
        return self._verdicts("check_solutions", self._rows([""] * len(solutions), solutions, columns))

    def answers(self, completions: Sequence[str], /) -> list[str | None] | None:
        """
        Read what completions answer, to count which answers agree.

        Args:
            completions (`Sequence[str]`, **shape (B,)**): What the student wrote.

        Returns:
            `list[str | None]` or `None`: Equal texts are equal answers; `None` in the list where a completion states
            no answer or reading it took too long. `None` for the list where the verifier cannot tell: it can with
            `"math"`, `"numeric"`, `"exact"` and `"choice"`.
        """
        if not self._check.states_answers:
            return None
        rows = self._rows(completions, [None] * len(completions), {})
        return [None if isinstance(result, Failure) else result for result in self._run("answers", rows)]

    def readings(
        self, completions: Sequence[str | Messages], solutions: Sequence[Any], /
    ) -> list[tuple[str | None, str | None]]:
        """
        Say what is read from completions and golds, for people who want to see why one passed or failed.

        Args:
            completions (`Sequence` of `str` or of lists of messages, **shape (B,)**): What the student wrote.
            solutions (`Sequence`, **shape (B,)**): The gold of each completion's problem.

        Returns:
            `list[tuple[str | None, str | None]]`: Of each pair, what is read as the answer and what as the gold.
            `None` where nothing can be read, or the verifier compares whole texts.
        """
        return [
            (self._check.stated(completion_text(completion)), self._check.stated_gold(solution))
            for completion, solution in zip(completions, solutions, strict=True)
        ]

    def close(self) -> None:
        """End the worker processes. A later call starts new ones."""
        if self._pool is not None:
            self._pool.close()

    def __enter__(self) -> Verifier:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _rows(self, completions: Sequence[Any], solutions: Sequence[Any], columns: Mapping[str, Any]) -> list[Row]:
        for name, values in columns.items():
            if len(values) != len(solutions):
                raise ValueError(f"Column `{name}` has {len(values)} values for {len(solutions)} solutions.")
        needed = self._check.columns
        if needed is not None:
            for name in needed:
                if name not in columns:
                    raise ValueError(
                        f"The verifier '{self.name}' needs the column `{name}`, and the problems have only "
                        f"{', '.join(f'`{column}`' for column in ('solution', *columns))}. Add it, or choose another "
                        "verifier."
                    )
            columns = {name: columns[name] for name in (*needed, *self._check.optional_columns) if name in columns}
        values = zip(*(list(column) for column in columns.values()), strict=True) if columns else [()] * len(solutions)
        return [
            Row(completion, solution, dict(zip(columns, row, strict=True)))
            for completion, solution, row in zip(completions, solutions, values, strict=True)
        ]

    def _run(self, method: str, rows: list[Row]) -> list[Any]:
        if self._pool is None:
            return list(getattr(self._check, method)(rows))
        return self._pool.map(method, rows, rows_per_call=self._check.rows_per_call)

    def _verdicts(self, method: str, rows: list[Row]) -> list[Verdict]:
        results = self._run(method, rows)
        return [self._verdict(result) if isinstance(result, Failure) else result for result in results]

    def _verdict(self, failure: Failure) -> Verdict:
        if failure.reason in ("timeout", "memory"):
            return Verdict.TIMEOUT
        if not self._has_logged_failure:
            self._has_logged_failure = True
            logger.error(
                "The verifier '%s' failed; the rows concerned are unverifiable and do not count. Further failures are "
                "not logged.\n%s",
                self.name,
                failure.detail,
            )
        return Verdict.UNVERIFIABLE


def start_check(name_or_path: str, options: dict[str, Any], timeout: float) -> Check:
    """Make a check and start it; what a worker process does first."""
    check = make_check(name_or_path, options)
    check.start(timeout)
    return check


def load_verifier(
    name_or_path: str,
    *,
    num_workers: int | None = None,
    timeout: float | None = None,
    max_memory: int | None = None,
    **options: Any,
) -> Verifier:
    """
    Make a verifier.

    Args:
        name_or_path (`str`):
            `"math"`, `"numeric"`, `"exact"`, `"choice"`, `"python_tests"` or `"reasoning_gym"`; or the dotted path of
            any TRL reward function, `"pkg.module:function"`.
        num_workers (`int`, *optional*):
            Worker processes. `None` means one per core, at most 4. `"exact"`, `"choice"` and `"numeric"` are
            plain string work and use none; `timeout` and `max_memory` mean nothing to them either.
        timeout (`float`, *optional*):
            Seconds that a check may take before its process is killed. `None` means 10 per completion; 60 per call of
            a reward function, which is given 16 completions at a time (and, when that fails, each alone);
            `"python_tests"`: 30 more than its `time_limit`.
        max_memory (`int`, *optional*):
            Bytes of address space per worker process. `None` means 2 GiB; no limit for a reward function and for
            `"python_tests"`, whose programs have one of their own.
        **options: What a verdict depends on: see the README of this room.

    Returns:
        [`Verifier`]

    Raises:
        ValueError: If the name or an option is unknown, or a value cannot be.
        ImportError: If the verifier's package is not installed, or the module of a path does not exist.

    Example:

    ```python
    >>> from paced_trl import load_verifier
    >>> with load_verifier("choice") as verifier:
    ...     [str(verdict) for verdict in verifier(["The answer is (B).", "C", "Hm."], ["B", "B", "B"])]
    ['passed', 'failed', 'unparseable']
    ```
    """
    check_value("num_workers", num_workers, int | None)
    if not isinstance(timeout, float):
        check_value("timeout", timeout, float | None)
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"`num_workers` must be at least 1, not {num_workers}.")
    if timeout is not None and not timeout > 0:
        raise ValueError(f"`timeout` must be a positive number of seconds, not {timeout}.")
    check_class, arguments = _check_class(name_or_path, options)
    defaults = _option_defaults(name_or_path, check_class, options)
    if check_class.package is not None:
        module, distribution, extra = check_class.package
        if importlib.util.find_spec(module) is None:
            raise ImportError(
                f"The verifier '{name_or_path}' needs {distribution}, which is not installed. Run `pip install "
                f"paced_trl[{extra}]`."
            )
    check = check_class(**arguments)
    check.check_environment()
    pool = None
    if not check.in_process:
        timeout = check.timeout if timeout is None else timeout
        pool = WorkerPool(
            "paced_trl.verification.verifier:start_check",
            {"name_or_path": name_or_path, "options": options, "timeout": timeout},
            num_workers=_default_num_workers() if num_workers is None else num_workers,
            timeout=timeout,
            max_memory=check.max_memory if max_memory is None else max_memory,
        )
    return Verifier(name_or_path, {"name": name_or_path, "options": {**defaults, **options}}, check, pool)


def _default_num_workers() -> int:
    # Not os.cpu_count(): a container or a batch system often grants fewer cores than the machine has.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(4, cores)


def make_check(name_or_path: str, options: Mapping[str, Any]) -> Check:
    """Return the check of a verifier, not started: it can say what it reads (`stated`), and gives no verdicts."""
    check_class, arguments = _check_class(name_or_path, options)
    return check_class(**arguments)


def _check_class(name_or_path: str, options: Mapping[str, Any]) -> tuple[type[Check], dict[str, Any]]:
    """Return a check's class, and the arguments it is made with."""
    kind, arguments = name_or_path, dict(options)
    if kind not in VERIFIERS:
        _require_module(name_or_path)
        kind, arguments = "reward_function", {"path": name_or_path, **options}
    class_name = "".join(part.capitalize() for part in kind.split("_"))
    return pkgutil.resolve_name(f"{__package__}.{kind}_check:{class_name}Check"), arguments


def _require_module(name_or_path: str) -> None:
    """Refuse a verifier that is neither built in nor in a module that there is."""
    module, _, attribute = name_or_path.partition(":")
    if not module or not attribute:
        raise ValueError(_unknown(name_or_path))
    try:
        is_there = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        is_there = False
    if not is_there:
        raise ImportError(
            f"There is no module `{module}`, so the verifier '{name_or_path}' cannot be loaded. Install it, or add "
            "its directory to PYTHONPATH."
        )


def _unknown(name: str) -> str:
    names = ", ".join(f"'{known}'" for known in VERIFIERS)
    if name == "json":
        return (
            "The verifier 'json' is no longer part of the package. Write a TRL reward function that parses and "
            f"compares the JSON, and name it by its path, 'pkg.module:function'; or use one of {names}."
        )
    hint = did_you_mean(name.lower(), VERIFIERS, cutoff=0.5)
    return f"Unknown verifier '{name}'.{hint} Use one of {names}, or 'pkg.module:function' for a TRL reward function."


def _option_defaults(name: str, check_class: type[Check], options: Mapping[str, Any]) -> dict[str, Any]:
    defaults = {key: option.default for key, option in inspect.signature(check_class).parameters.items()}
    defaults.pop("path", None)
    hints = get_type_hints(check_class.__init__)
    for option, value in options.items():
        if option not in defaults:
            known = ", ".join(f"`{option}`" for option in defaults) or "none"
            hint = did_you_mean(option, defaults, quote="`")
            raise ValueError(f"The verifier '{name}' has no option `{option}`.{hint} Its options: {known}.")
        # Of numbers the check itself says the range, and of choices which there are.
        kind = hints.get(option)
        is_for_the_check = isinstance(value, float) and float in (kind, *get_args(kind))
        if kind is not None and not is_for_the_check and get_origin(kind) is not Literal:
            check_value(option, value, kind)
    return defaults
