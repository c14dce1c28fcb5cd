"""
Completions from servers with an OpenAI-compatible route `/v1/completions`: vLLM, SGLang, llama.cpp, TGI, and others.

Prompts are rendered here and sent as token ids, so that the template is the trainer's and not the server's, and no
server adds a second beginning-of-sequence token. What servers do differently is checked in every answer, not looked
up: how many completions a request returns, why one ended, how many tokens it has.

Refuses to know HTTP (`servers.py`). Not from the paper.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Literal

from .batching import Row
from .completions import Completion, SamplingParameters
from .identity import model_name
from .prompt_generator import PromptGenerator
from .prompts import PromptRenderer
from .servers import NonsenseError, RefusedError, Server, ServerPool


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# TGI says "eos_token" where OpenAI says "stop".
_FINISH_REASONS: dict[str, Literal["stop", "length"]] = {"stop": "stop", "eos_token": "stop", "length": "length"}


class OpenAIGenerator(PromptGenerator):
    """
    Generate with OpenAI-compatible servers.

    Completions depend on the server's numerics and, without `send_seed`, on its random state. Servers that die are
    dropped and their work is redone by the others; see [`ServerPool`].

    Example:

    ```python
    >>> generator = OpenAIGenerator(["http://gpu-1:8000", "http://gpu-2:8000"], "Qwen/Qwen3-4B", tokenizer, sampling)
    >>> for index, completions in generator(["2+2=", "3+3="], 4, seed=0):
    ...     print(index, [completion.text for completion in completions])
    ```

    Args:
        base_urls (`Sequence[str]`):
            Servers of one and the same model, with or without `/v1`.
        model (`str`):
            How the servers call it.
        tokenizer (`PreTrainedTokenizerBase`):
            Its tokenizer.
        sampling (`SamplingParameters`):
            How completions are drawn.
        model_record (`dict`, *optional*):
            What identifies the weights in a store's record beside the name, such as `{"weights": "step-500"}`: a
            server does not tell.
        chat_template_kwargs (`dict`, *optional*):
            Further variables of the chat template.
        batch_size (`int`, *optional*, defaults to `256`):
            Completions that the caller should ask for at once, at least; several times what is in flight.
        concurrency (`int`, *optional*, defaults to `16`):
            Requests in flight per server.
        timeout (`float`, *optional*, defaults to `600.0`):
            Seconds until a request counts as failed.
        max_failures (`int`, *optional*, defaults to `6`):
            Failures in a row after which a server is dropped.
        backoff (`float`, *optional*, defaults to `0.5`):
            Seconds of pause after a failure; doubled with each further one.
        send_seed (`bool`, *optional*, defaults to `True`):
            Give each request a seed. Set to `False` for servers that do not survive it, such as vLLM 0.32 on a CPU,
            whose engine ends where a prompt is prefilled in parts.
        prompt_format (`"ids"` or `"text"`, *optional*, defaults to `"ids"`):
            `"text"` is for servers that do not take token ids; these may add special tokens.
        openai_parameters_only (`bool`, *optional*, defaults to `False`):
            Leave out `top_k`, `min_p`, `repetition_penalty` and `stop_token_ids`, for servers that refuse what
            OpenAI's own does not know. Others would take a missing one from the checkpoint's `generation_config`.
        extra_body (`dict`, *optional*):
            Further fields of every request, such as `{"return_token_ids": True}`, with which vLLM counts tokens.
        context_length (`int`, *optional*):
            Most tokens that the server takes; longer prompts are then refused before anything is generated.
        api_key_variable (`str`, *optional*):
            Environment variable that holds the API key. `None` sends none.

    Raises:
        ValueError: If there is no server, a limit is below 1, the variable of the API key is not set, or the sampling
            parameters cannot be said with `openai_parameters_only`.
    """

    def __init__(
        self,
        base_urls: Sequence[str],
        model: str,
        tokenizer: PreTrainedTokenizerBase,
        sampling: SamplingParameters,
        *,
        model_record: dict[str, Any] | None = None,
        chat_template_kwargs: dict[str, Any] | None = None,
        batch_size: int = 256,
        concurrency: int = 16,
        timeout: float = 600.0,
        max_failures: int = 6,
        backoff: float = 0.5,
        send_seed: bool = True,
        prompt_format: Literal["ids", "text"] = "ids",
        openai_parameters_only: bool = False,
        extra_body: dict[str, Any] | None = None,
        context_length: int | None = None,
        api_key_variable: str | None = None,
    ):
        renderer = PromptRenderer(tokenizer, chat_template_kwargs)
        super().__init__(renderer, sampling, batch_size=batch_size, context_length=context_length)
        if prompt_format not in ("ids", "text"):
            raise ValueError(f"`prompt_format` is {prompt_format!r}: it must be 'ids' or 'text'.")
        self.model = model
        self.tokenizer = tokenizer
        self.send_seed = send_seed
        self.prompt_format = prompt_format
        self._model_record = dict(model_record or {})
        self._fixed_body = {
            **_sampling_body(sampling, tokenizer, openai_parameters_only=openai_parameters_only),
            **(extra_body or {}),
        }
        self._pool: ServerPool[Row, list[Completion]] = ServerPool(
            [_completions_url(url) for url in ([base_urls] if isinstance(base_urls, str) else base_urls)],
            concurrency=concurrency,
            timeout=timeout,
            max_failures=max_failures,
            backoff=backoff,
            headers=_authorization(api_key_variable),
        )

    @property
    def record(self) -> dict[str, Any]:
        """Everything that the completions depend on, as JSON values; not where the servers are."""
        return {
            "engine": "openai",
            "model": model_name(self.model),
            **self._model_record,
            **self.renderer.record,
            "prompt_format": self.prompt_format,
            "request": self._fixed_body,
            "sampling": asdict(self.sampling),
        }

    @property
    def num_nonsense(self) -> int:
        """How many answers of servers were none."""
        return sum(server.num_nonsense for server in self._pool.servers)

    def _generate_rows(self, rows: list[Row], seed: int) -> Iterator[tuple[Row, Completion]]:
        def prepare(row: Row, server: Server) -> tuple[Row, dict[str, Any], list[Row]]:
            sent, rest = _cut(row, server.most_choices or row.num_generations)
            return sent, self._body(sent, seed), rest

        try:
            for row, completions in self._pool.run(rows, prepare, self._read):
                yield from zip(row.singles(), completions, strict=False)
        except RefusedError as error:
            raise ValueError(
                f"{error} Check the model's name and the API key. Servers that take no token ids need "
                "`prompt_format='text'`, those that know OpenAI's parameters only `openai_parameters_only=True`."
            ) from error

    def _body(self, row: Row, seed: int) -> dict[str, Any]:
        prompt = row.prompt_ids if self.prompt_format == "ids" else self.tokenizer.decode(row.prompt_ids)
        body = {"model": self.model, "prompt": prompt, "n": row.num_generations, **self._fixed_body}
        if self.send_seed:
            text = f"{seed}|{row.first_generation}|{','.join(map(str, row.prompt_ids))}"
            body["seed"] = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little") >> 1
        return body

    def _read(self, row: Row, answer: Any, server: Server) -> tuple[list[Completion], list[Row]]:
        """Return the completions of an answer and what they leave of a row."""
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not isinstance(choices, list) or not choices:
            raise NonsenseError(f"answered no choices but {str(answer)[:80]!r}")
        choices = choices[: row.num_generations]
        usage = answer.get("usage")
        total = usage.get("completion_tokens") if isinstance(usage, dict) and len(choices) == 1 else None
        completions = [self._completion(choice, total) for choice in choices]
        if len(completions) < row.num_generations:
            # It ignores `n` or bounds it: from now on it is asked for no more.
            server.most_choices = len(completions)
        return completions, _cut(row, len(completions))[1]

    def _completion(self, choice: Any, num_tokens: Any) -> Completion:
        text = choice.get("text") if isinstance(choice, dict) else None
        finish_reason = choice.get("finish_reason") if isinstance(choice, dict) else None
        if not isinstance(text, str) or finish_reason not in _FINISH_REASONS:
            raise NonsenseError(f"answered a choice without text or finish reason: {str(choice)[:80]!r}")
        reason = _FINISH_REASONS[finish_reason]
        if isinstance(choice.get("token_ids"), list):
            num_tokens = len(choice["token_ids"])
        elif not isinstance(num_tokens, int):
            ids: Any = self.tokenizer(text=text, add_special_tokens=False)["input_ids"]
            # Text does not always give back the tokens it was made of.
            most = self.sampling.max_completion_length
            num_tokens = most if reason == "length" else min(len(ids) + 1, most)
        return Completion(text, num_tokens, reason)


def load_openai_generator(
    model_name_or_path: str,
    base_urls: Sequence[str],
    *,
    tokenizer_name_or_path: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    sampling: SamplingParameters | None = None,
    **options: Any,
) -> OpenAIGenerator:
    """
    Load a tokenizer and make an [`OpenAIGenerator`]; no weights are loaded.

    Args:
        model_name_or_path (`str`):
            How the servers call the model.
        base_urls (`Sequence[str]`):
            The servers.
        tokenizer_name_or_path (`str`, *optional*):
            Where the tokenizer is. `None` takes `model_name_or_path`.
        revision, trust_remote_code:
            Of the tokenizer, as in [`load_tokenizer`].
        sampling (`SamplingParameters`, *optional*):
            `None` takes the defaults of [`SamplingParameters`].
        **options (`Any`):
            As in [`OpenAIGenerator`].

    Returns:
        `OpenAIGenerator`
    """
    from .models import load_tokenizer

    name = tokenizer_name_or_path or model_name_or_path
    tokenizer = load_tokenizer(name, revision=revision, trust_remote_code=trust_remote_code)
    return OpenAIGenerator(base_urls, model_name_or_path, tokenizer, sampling or SamplingParameters(), **options)


def _cut(row: Row, num_generations: int) -> tuple[Row, list[Row]]:
    """Return the first generations of a row, and what is left of it."""
    if row.num_generations <= num_generations:
        return row, []
    rest = replace(
        row,
        first_generation=row.first_generation + num_generations,
        num_generations=row.num_generations - num_generations,
    )
    return replace(row, num_generations=num_generations), [rest]


def _completions_url(base_url: str) -> str:
    base = base_url.rstrip("/")
    return f"{base if base.endswith('/v1') else base + '/v1'}/completions"


def _authorization(variable: str | None) -> dict[str, str]:
    if variable is None:
        return {}
    if not os.environ.get(variable):
        raise ValueError(
            f"`api_key_variable` is {variable!r}, and there is no such environment variable. Set it to the API key."
        )
    return {"Authorization": f"Bearer {os.environ[variable]}"}


def _sampling_body(
    sampling: SamplingParameters, tokenizer: PreTrainedTokenizerBase, *, openai_parameters_only: bool
) -> dict[str, Any]:
    body = {
        "max_tokens": sampling.max_completion_length,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    if not openai_parameters_only:
        return {
            **body,
            # -1 is "all tokens" everywhere, 0 is refused by some.
            "top_k": sampling.top_k or -1,
            "min_p": sampling.min_p or 0.0,
            "repetition_penalty": sampling.repetition_penalty,
            "stop_token_ids": [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id],
        }
    if sampling.top_k or sampling.min_p or not math.isclose(sampling.repetition_penalty, 1.0):
        raise ValueError(
            "`top_k`, `min_p` or `repetition_penalty` is set, which OpenAI's parameters cannot say. Leave it at its "
            "default, or set `openai_parameters_only` to False."
        )
    return body
