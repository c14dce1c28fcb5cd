"""
What is asked of a generator and of a verifier, either of which may be the user's own, and whether they gave it.

Every prompt once, with as many completions as asked for; one verdict per completion, and only those there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..store.shards import VERDICTS
from ..verification.verdict import Verdict, mark_truncated


if TYPE_CHECKING:
    from collections.abc import Callable

    from ..generation.completions import Completion, Generator
    from ..progress import GenerationProgress

    # A `Verifier`, or any callable (completions, solutions, **columns) -> verdicts.
    VerifierLike = Callable[..., Sequence[Any]]


def generate_all(
    generator: Generator, prompts: Sequence[Any], counts: Sequence[int], seed: int, progress: GenerationProgress
) -> dict[int, list[Completion]]:
    """Let a generator complete B prompts, `counts[i]` times each; return the completions by index of their prompt."""
    num_generations = counts[0] if len(set(counts)) == 1 else list(counts)
    generated: dict[int, list[Completion]] = {}
    for index, completions in generator(prompts, num_generations, seed=seed):
        if not 0 <= index < len(prompts):
            raise ValueError(f"The generator yielded prompt index {index}, but it was given {len(prompts)} prompts.")
        if index in generated:
            raise ValueError(f"The generator yielded prompt index {index} twice; each prompt must come once.")
        if len(completions) != counts[index]:
            raise ValueError(
                f"The generator yielded {len(completions)} completions for prompt index {index}, but was asked for "
                f"{counts[index]}."
            )
        generated[index] = completions
        progress.advance(len(completions), sum(completion.num_tokens for completion in completions))
    if len(generated) < len(prompts):
        missing = next(index for index in range(len(prompts)) if index not in generated)
        raise ValueError(
            f"The generator yielded nothing for {len(prompts) - len(generated)} of {len(prompts)} prompts, the first "
            f"with index {missing}."
        )
    return generated


def verify_all(verifier: VerifierLike, completions: Sequence[Completion], columns: dict[str, list[Any]]) -> list[str]:
    """
    Let a verifier judge B completions; one that was cut off and is wrong or states no answer is `truncated`.

    `columns` has `solution` and whatever else the verifier may read, each a list of length B.
    """
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
