"""
What is asked of a generator and of a verifier, either of which may be the user's own, and whether they gave it.

Every prompt once, with as many completions as asked for; one verdict per completion, and only those there are.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ..store.shards import VERDICTS
from ..verification.verdict import Verdict, mark_truncated


if TYPE_CHECKING:
    from collections.abc import Callable

    from ..generation.completions import Completion, Generator
    from ..progress import GenerationProgress

    # A `Verifier`, or any callable (completions, solutions, **columns) -> verdicts.
    VerifierLike = Callable[..., Sequence[Any]]


def yields_as_it_goes(generator: Generator) -> bool:
    """Whether a generator gives prompts as they are completed, as generator functions do, and not all at the end."""
    return inspect.isgeneratorfunction(generator) or inspect.isgeneratorfunction(type(generator).__call__)


def generate_stream(
    generator: Generator,
    prompts: Sequence[Any],
    counts: Sequence[int],
    seeds: Sequence[int],
    progress: GenerationProgress,
) -> Iterator[tuple[int, list[Completion]]]:
    """Let a generator complete B prompts, each `counts[i]` times with `seeds[i]`; yield index and completions."""
    num_generations = counts[0] if len(set(counts)) == 1 else list(counts)
    seed: Any = seeds[0] if len(set(seeds)) == 1 else list(seeds)
    answers = generator(prompts, num_generations, seed=seed)
    done = set[int]()
    # Who stops in the middle ends the engine's work on the rest.
    with ExitStack() as stack:
        if inspect.isgenerator(answers):
            stack.callback(answers.close)
        for index, completions in answers:
            _check_answer(index, completions, counts, done)
            done.add(index)
            progress.advance(len(completions), sum(completion.num_tokens for completion in completions))
            yield index, completions
    if len(done) < len(prompts):
        missing = next(index for index in range(len(prompts)) if index not in done)
        raise ValueError(
            f"The generator yielded nothing for {len(prompts) - len(done)} of {len(prompts)} prompts, the first with "
            f"index {missing}."
        )


def _check_answer(index: int, completions: Sequence[Completion], counts: Sequence[int], done: set[int]) -> None:
    if not 0 <= index < len(counts):
        raise ValueError(f"The generator yielded prompt index {index}, but it was given {len(counts)} prompts.")
    if index in done:
        raise ValueError(f"The generator yielded prompt index {index} twice; each prompt must come once.")
    if len(completions) != counts[index]:
        raise ValueError(
            f"The generator yielded {len(completions)} completions for prompt index {index}, but was asked for "
            f"{counts[index]}."
        )


def verify_all(verifier: VerifierLike, completions: Sequence[Completion], columns: dict[str, list[Any]]) -> list[str]:
    """Let a verifier, which may read `columns`, judge B completions; a wrong one that was cut off is `truncated`."""
    others = {name: values for name, values in columns.items() if name != "solution"}
    texts = [completion.text for completion in completions]
    verdicts = checked_verdicts(verifier(texts, columns["solution"], **others), len(texts))
    # A completion that was cut off is not wrong but unfinished. The verifier's own failures stay what they are.
    cut_off = [completion.finish_reason == "length" for completion in completions]
    return [str(verdict) for verdict in mark_truncated([Verdict(verdict) for verdict in verdicts], cut_off)]


def checked_verdicts(verdicts: Sequence[Any], length: int) -> list[str]:
    """Return a verifier's verdicts as text; refuse another number than `length`, or what is no verdict."""
    values = [getattr(verdict, "value", verdict) for verdict in verdicts]
    if len(values) != length:
        raise ValueError(
            f"The verifier returned {len(values)} verdicts for {length} completions: it must return one each."
        )
    unknown = [value for value in values if value not in VERDICTS]
    if unknown:
        raise ValueError(f"The verifier returned {unknown[0]!r}, which is no verdict: one of {', '.join(VERDICTS)}.")
    return values
