"""
Completions from a vLLM engine in this process, without a server.

Prompts are rendered here and given as token ids, every sampling parameter is said, and nothing is taken from the
checkpoint's `generation_config` but its end-of-sequence tokens. Prefix caching makes K completions of a prompt, and
prompts with the same examples before them, cost one prefill.

vLLM is no dependency of this package: it is imported when a generator is made.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import metadata
from typing import Any, Literal, cast

from accelerate.utils.memory import clear_device_cache
from packaging.requirements import Requirement
from transformers import PreTrainedTokenizerBase

from .batching import PromptRow
from .completions import Completion, Prompt, SamplingParameters
from .identity import declared_eos_token_ids, model_record
from .models import is_adapter, load_config, load_tokenizer, resolve_model_path
from .prompts import PromptGenerator, PromptRenderer


_SERVERS = "serve the model from an environment of its own and set `engine: openai`"


class VLLMGenerator(PromptGenerator):
    """
    Generate with `vllm.LLM`.

    With `send_seed` a completion depends on weights, sampling parameters, seed, prompt, and vLLM's numerics, which
    vary a little with the batch; without, on everything that the engine has drawn before.

    `eos_token_ids` end a completion, `record` identifies the model in a store's record. `send_seed=False` is for a
    CPU: where a prompt is prefilled in parts, a seed ends the engine of vLLM 0.32 ("CPU Generator does not use
    offset"). vLLM bounds by itself what runs together; `context_length=None` asks it how long a sequence may be.
    """

    def __init__(
        self,
        llm: Any,
        tokenizer: PreTrainedTokenizerBase,
        sampling: SamplingParameters,
        *,
        eos_token_ids: list[int],
        record: dict[str, Any],
        chat_template_kwargs: dict[str, Any] | None = None,
        send_seed: bool = True,
        context_length: int | None = None,
    ):
        super().__init__(
            PromptRenderer(tokenizer, chat_template_kwargs),
            sampling,
            context_length=context_length or llm.llm_engine.model_config.max_model_len,
        )
        self.llm = llm
        self.eos_token_ids = eos_token_ids
        self.send_seed = send_seed
        self._identity = dict(record)

    @property
    def record(self) -> dict[str, Any]:
        """Everything that the completions depend on, as JSON values; part of a store's record."""
        return {
            "engine": "vllm",
            **self._identity,
            **self.renderer.record,
            "eos_token_ids": self.eos_token_ids,
            "sampling": asdict(self.sampling),
        }

    def close(self) -> None:
        """Shut the engine down and give back the memory that it has reserved; it cannot be used afterwards."""
        if self.llm is None:
            return
        self.llm.llm_engine.engine_core.shutdown()
        self.llm = None
        clear_device_cache(garbage_collection=True)

    def _generate_rows(self, rows: list[PromptRow], seed: int) -> Iterator[tuple[PromptRow, Completion]]:
        # vLLM's own loop, `LLM.generate`, gives nothing before everything is done.
        engine = self.llm.llm_engine
        waiting = {str(number): row for number, row in enumerate(rows)}
        try:
            for number, row in waiting.items():
                engine.add_request(number, {"prompt_token_ids": row.prompt_ids}, self._parameters(row, seed))
            while waiting:
                for output in engine.step():
                    if output.finished:
                        row = waiting.pop(output.request_id)
                        outputs = sorted(output.outputs, key=lambda completion: completion.index)
                        yield from zip(row.singles(), map(_completion, outputs), strict=True)
        except BaseException as error:
            if type(error).__name__ == "EngineDeadError":
                raise RuntimeError(
                    "vLLM's engine has died; its log above says why. Completions in the store are kept, and the same "
                    "command goes on from there. On a CPU a request with a seed can be the cause: `send_seed=False`."
                ) from error
            # Who stops in the middle would otherwise find these among the answers of the next call.
            engine.abort_request(list(waiting))
            raise

    def _parameters(self, row: PromptRow, seed: int) -> Any:
        import vllm

        sampling = self.sampling
        return vllm.SamplingParams(
            n=row.num_generations,
            max_tokens=sampling.max_completion_length,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k or -1,
            min_p=sampling.min_p or 0.0,
            repetition_penalty=sampling.repetition_penalty,
            seed=row.seed(seed) if self.send_seed else None,
            stop_token_ids=self.eos_token_ids,
            skip_special_tokens=True,
            output_kind=vllm.sampling_params.RequestOutputKind.FINAL_ONLY,
        )


def _completion(output: Any) -> Completion:
    if output.finish_reason not in ("stop", "length"):
        raise RuntimeError(
            f"vLLM ended a completion with the reason {output.finish_reason!r}, so it is not finished. Its log says "
            "why."
        )
    reason = cast(Literal["stop", "length"], output.finish_reason)
    return Completion(output.text, len(output.token_ids), reason)


def load_vllm_generator(
    model_name_or_path: str,
    *,
    revision: str | None = None,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    sampling: SamplingParameters | None = None,
    chat_template_kwargs: dict[str, Any] | None = None,
    concurrency: int | None = None,
    send_seed: bool = True,
    llm_kwargs: dict[str, Any] | None = None,
    prompts: Sequence[Prompt] = (),
) -> VLLMGenerator:
    """
    Load a model, no adapter, into vLLM and make a [`VLLMGenerator`] of it; `llm_kwargs` are those of `vllm.LLM`.

    `concurrency` is how many completions are generated at once (vLLM's `max_num_seqs`); `None` leaves that to vLLM,
    which goes by the card. With the `prompts` that will be asked, the engine reserves memory for the longest of them
    and its completion (`max_model_len`) rather than for the model's whole context.
    """
    _check_installed()
    import vllm

    resolved = resolve_model_path(model_name_or_path)
    if is_adapter(resolved, revision):
        raise ValueError(
            f"`{model_name_or_path}` is an adapter, which `engine='vllm'` does not load. Merge it into its base with "
            "`merge_and_unload()` and save that, or use `engine='transformers'`."
        )
    tokenizer = load_tokenizer(model_name_or_path, revision=revision, trust_remote_code=trust_remote_code)
    sampling = sampling or SamplingParameters()
    options = {"enable_prefix_caching": True, "seed": 0, **(llm_kwargs or {})}
    if concurrency is not None:
        options["max_num_seqs"] = concurrency
    if prompts and "max_model_len" not in options:
        longest = max(map(len, PromptRenderer(tokenizer, chat_template_kwargs).tokenize(prompts)))
        context = load_config(model_name_or_path, revision=revision, trust_remote_code=trust_remote_code)
        limit = getattr(context.get_text_config(), "max_position_embeddings", None)
        needed = longest + sampling.max_completion_length
        options["max_model_len"] = needed if limit is None else min(needed, limit)
    llm = vllm.LLM(
        model=resolved,
        revision=revision,
        tokenizer_revision=revision,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        # Nothing is inherited: sampling parameters are the policy that is measured.
        generation_config="vllm",
        **options,
    )
    return VLLMGenerator(
        llm,
        tokenizer,
        sampling,
        eos_token_ids=declared_eos_token_ids(resolved, revision, tokenizer, trust_remote_code=trust_remote_code),
        record=model_record(model_name_or_path, revision) | {"dtype": dtype},
        chat_template_kwargs=chat_template_kwargs,
        send_seed=send_seed,
    )


def _check_installed() -> None:
    """Refuse where vLLM cannot work: not installed, beside libraries of other versions, in several processes."""
    try:
        import vllm  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"`engine='vllm'` needs vLLM, which is not installed here or does not load ({error}). Run `pip install -c "
            f"constraints-vllm.txt 'paced_trl[vllm]'` in a new environment, or {_SERVERS}."
        ) from error
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    if num_processes > 1:
        raise ValueError(
            f"`engine='vllm'` was started in {num_processes} processes, and the engine of each would take the first "
            "GPU. Start it without a launcher: it uses several GPUs itself, with `engine_kwargs: {llm_kwargs: "
            f"{{tensor_parallel_size: {num_processes}}}}}`. Or {_SERVERS}."
        )
    refuse_other_libraries()


def refuse_other_libraries() -> None:
    """Refuse a vLLM that asks for other versions of torch, transformers, ... than those that are installed."""
    try:
        distribution = metadata.distribution("vllm")
    except metadata.PackageNotFoundError:
        return
    for requirement in map(Requirement, distribution.requires or ()):
        if requirement.name not in ("numpy", "tokenizers", "torch", "transformers"):
            continue
        installed = metadata.version(requirement.name)
        applies = requirement.marker is None or requirement.marker.evaluate()
        if applies and not requirement.specifier.contains(installed, prereleases=True):
            raise ImportError(
                f"vLLM {distribution.version} needs {requirement.name} {requirement.specifier}, and {installed} is "
                "installed, so the two do not go together. vLLM 0.30 goes with this package: `pip install -c "
                f"constraints-vllm.txt 'paced_trl[vllm]'`. For another version, {_SERVERS}."
            )
