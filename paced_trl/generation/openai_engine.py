"""
Completions from servers with an OpenAI-compatible route `/v1/completions`: vLLM, SGLang, llama.cpp, TGI, and others.

Prompts are rendered here and sent as token ids, so that the template is the trainer's and not the server's, and no
server adds a second beginning-of-sequence token. What servers do differently is checked in every answer, not looked
up: how many completions a request returns, why one ended, how many tokens it has. `servers.py` asks them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from .batching import PromptRow
from .completions import Completion, SamplingParameters
from .identity import model_name
from .models import load_tokenizer
from .prompts import PromptGenerator, PromptRenderer
from .servers import InvalidResponseError, RefusedError, Server, ServerOptions, ServerPool


# What TGI says is here too.
_FINISH_REASONS: dict[Any, Literal["stop", "length"]] = {
    "stop": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "length": "length",
}


class OpenAIGenerator(PromptGenerator):
    """
    Generate with OpenAI-compatible servers of one and the same model, which they call `model`.

    Completions depend on the server's numerics and, without `send_seed`, on its random state. What identifies the
    weights in a store's record (`model_record`, such as `{"weights": "step-500"}`) a server does not tell. `options`
    are those of [`ServerOptions`]; `context_length` is the most tokens that a server takes.
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
        context_length: int | None = None,
        **options: Any,
    ):
        renderer = PromptRenderer(tokenizer, chat_template_kwargs)
        super().__init__(renderer, sampling, context_length=context_length)
        self.options = ServerOptions(**options)
        self.model = model
        self.tokenizer = tokenizer
        self._model_record = dict(model_record or {})
        self._fixed_body = self._sampling_body() | (self.options.extra_body or {})
        bases = [url.rstrip("/") for url in ([base_urls] if isinstance(base_urls, str) else base_urls)]
        urls = [base if base.endswith("/v1") else f"{base}/v1" for base in bases]
        self._pool = ServerPool(urls, self.options, self._read)

    @property
    def record(self) -> dict[str, Any]:
        """Everything that the completions depend on, as JSON values; not where the servers are."""
        return {
            "engine": "openai",
            "model": model_name(self.model),
            **self._model_record,
            **self.renderer.record,
            "prompt_format": self.options.prompt_format,
            "request": self._fixed_body,
            "sampling": asdict(self.sampling),
        }

    @property
    def num_invalid_responses(self) -> int:
        """How many answers of servers were none."""
        return sum(server.num_invalid for server in self._pool.servers)

    def _sampling_body(self) -> dict[str, Any]:
        sampling, end = self.sampling, self.tokenizer.eos_token_id
        body = {
            "max_tokens": sampling.max_completion_length,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        if not self.options.openai_parameters_only:
            return {
                **body,
                # -1 is "all tokens" everywhere, 0 is refused by some.
                "top_k": sampling.top_k or -1,
                "min_p": sampling.min_p or 0.0,
                "repetition_penalty": sampling.repetition_penalty,
                "stop_token_ids": [] if end is None else [end],
            }
        if sampling.top_k or sampling.min_p or not math.isclose(sampling.repetition_penalty, 1.0):
            raise ValueError(
                "`top_k`, `min_p` or `repetition_penalty` is set, which OpenAI's parameters cannot say. Leave it at "
                "its default, or set `openai_parameters_only` to False."
            )
        return body

    def _generate_rows(self, rows: list[PromptRow], seed: int) -> Iterator[tuple[PromptRow, Completion]]:
        def prepare(row: PromptRow, server: Server) -> tuple[PromptRow, dict[str, Any], list[PromptRow]]:
            sent, rest = row.cut(server.most_choices or row.num_generations)
            ids = sent.prompt_ids
            prompt = ids if self.options.prompt_format == "ids" else self.tokenizer.decode(ids)
            own_seed = {"seed": sent.seed(seed)} if self.options.send_seed else {}
            body = {"model": self.model, "prompt": prompt, "n": sent.num_generations, **self._fixed_body, **own_seed}
            return sent, body, rest

        try:
            for row, completions in self._pool.run(rows, prepare):
                yield from zip(row.singles(), completions, strict=False)
        except RefusedError as error:
            raise ValueError(
                f"{error} Check the model's name and the API key. Servers that take no token ids need "
                "`prompt_format='text'`, those that know OpenAI's parameters only `openai_parameters_only=True`."
            ) from error

    def _read(self, row: PromptRow, answer: Any, server: Server) -> tuple[list[Completion], list[PromptRow]]:
        """Return the completions of an answer and what they leave of a row."""
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not isinstance(choices, list) or not choices:
            raise InvalidResponseError(f"answered no choices but {str(answer)[:80]!r}")
        choices = choices[: row.num_generations]
        usage = answer.get("usage")
        total = usage.get("completion_tokens") if isinstance(usage, dict) and len(choices) == 1 else None
        completions = [self._completion(choice, total) for choice in choices]
        if len(completions) < row.num_generations:
            # It ignores `n` or bounds it: from now on it is asked for no more.
            server.most_choices = len(completions)
        return completions, row.cut(len(completions))[1]

    def _completion(self, choice: Any, num_tokens: Any) -> Completion:
        text = choice.get("text") if isinstance(choice, dict) else None
        finish_reason = choice.get("finish_reason") if isinstance(choice, dict) else None
        if not isinstance(text, str) or not isinstance(finish_reason, str) or finish_reason not in _FINISH_REASONS:
            raise InvalidResponseError(f"answered a choice without text or finish reason: {str(choice)[:80]!r}")
        # Half a character, which JSON allows, can be neither stored nor verified.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        reason = _FINISH_REASONS[finish_reason]
        most = self.sampling.max_completion_length
        if isinstance(choice.get("token_ids"), list):
            num_tokens = len(choice["token_ids"])
        if not isinstance(num_tokens, int) or isinstance(num_tokens, bool) or not 0 < num_tokens <= most:
            ids: Any = self.tokenizer(text=text, add_special_tokens=False)["input_ids"]
            # Text does not always give back the tokens it was made of.
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
    """Load a tokenizer (None: that of the model) and make an [`OpenAIGenerator`]; no weights are loaded."""
    name = tokenizer_name_or_path or model_name_or_path
    tokenizer = load_tokenizer(name, revision=revision, trust_remote_code=trust_remote_code)
    return OpenAIGenerator(base_urls, model_name_or_path, tokenizer, sampling or SamplingParameters(), **options)
