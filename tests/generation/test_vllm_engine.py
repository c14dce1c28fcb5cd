"""The `vllm` engine: what it hands to vLLM, shown by a fake; and, marked, vLLM itself, offline and as a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from helpers.paths import ROOT
from helpers.tiny_models import build_tiny_model, build_tiny_tokenizer
from paced_trl.generation.completions import Completion, SamplingParameters
from paced_trl.generation.engines import closing_generator, load_generator


class FakeLLM:
    """Answers each request with its prompt, last request first, `max_running` at a time."""

    made: list[FakeLLM] = []

    def __init__(self, **options: Any):
        self.options = options
        self.requests: dict[str, tuple[dict[str, Any], Any]] = {}
        self.seen: list[Any] = []
        self.llm_engine = self.engine_core = self
        self.is_shut_down = False
        self.model_config = SimpleNamespace(max_model_len=options.get("max_model_len", 256))
        self.made.append(self)

    def add_request(self, request_id: str, prompt: dict[str, Any], params: Any) -> None:
        assert request_id not in self.requests
        self.requests[request_id] = (prompt, params)
        self.seen.append((prompt, params))

    def abort_request(self, request_ids: list[str]) -> None:
        for request_id in request_ids:
            del self.requests[request_id]

    def shutdown(self) -> None:
        self.is_shut_down = True

    def step(self) -> list[Any]:
        request_id, (prompt, params) = self.requests.popitem()
        text = build_tiny_tokenizer().decode(prompt["prompt_token_ids"])
        reason = "length" if text == "abc" else "stop"
        outputs = [
            SimpleNamespace(
                index=i,
                text=f"{text}{i}",
                token_ids=[5] * (i + 2),
                finish_reason=reason,
            )
            for i in reversed(range(params.n))
        ]
        return [
            SimpleNamespace(request_id=request_id, finished=True, outputs=outputs),
            *(SimpleNamespace(request_id=other, finished=False, outputs=[]) for other in self.requests),
        ]


@pytest.fixture
def fake_vllm(monkeypatch: pytest.MonkeyPatch) -> type[FakeLLM]:
    module: Any = ModuleType("vllm")
    module.LLM = FakeLLM
    module.SamplingParams = SimpleNamespace
    module.sampling_params = SimpleNamespace(RequestOutputKind=SimpleNamespace(FINAL_ONLY="final only"))
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setattr(FakeLLM, "made", [])
    return FakeLLM


@pytest.fixture
def student(tmp_path: Path) -> Path:
    model = build_tiny_model()
    model.generation_config.update(eos_token_id=[1, 50], do_sample=True, top_k=3)
    model.save_pretrained(tmp_path / "student")
    build_tiny_tokenizer().save_pretrained(tmp_path / "student")
    return tmp_path / "student"


def test_vllm_is_given_everything(fake_vllm: type[FakeLLM], student: Path) -> None:
    sampling = SamplingParameters(temperature=0.7, top_p=0.9, min_p=0.05, max_completion_length=16)
    generator: Any = load_generator(
        "vllm",
        model_name_or_path=str(student),
        dtype="float32",
        sampling=sampling,
        llm_kwargs={"max_model_len": 128, "enable_prefix_caching": True},
        concurrency=512,
        batch_size=64,  # of another engine
    )
    prompts = ["2+2=", "abc", [{"role": "user", "content": "hi"}]]
    generated = dict(generator(prompts, [2, 1, 3], seed=0))
    assert generated[0] == [Completion("2+2=0", 2, "stop"), Completion("2+2=1", 3, "stop")]
    assert generated[1] == [Completion("abc0", 2, "length")]
    assert [c.num_tokens for c in generated[2]] == [2, 3, 4]
    (llm,) = fake_vllm.made
    options = {**llm.options}
    assert options.pop("model") == str(student)
    assert options == {
        "revision": None,
        "tokenizer_revision": None,
        "dtype": "float32",
        "trust_remote_code": False,
        "generation_config": "vllm",
        "enable_prefix_caching": True,
        "seed": 0,
        "max_model_len": 128,
        "max_num_seqs": 512,
    }
    asked = {tuple(prompt["prompt_token_ids"]): vars(params) for prompt, params in llm.seen}
    assert set(asked) == {tuple(ids) for ids in generator.renderer.tokenize(prompts)}
    parameters = asked[tuple(generator.renderer.tokenize(["2+2="])[0])]
    assert 0 <= parameters.pop("seed") < 2**31
    assert parameters == {
        "n": 2,
        "max_tokens": 16,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": -1,
        "min_p": 0.05,
        "repetition_penalty": 1.0,
        "stop_token_ids": [1, 50],
        "skip_special_tokens": True,
        "output_kind": "final only",
    }
    record = generator.record
    assert json.loads(json.dumps(record)) == record
    assert (record["engine"], record["model"], record["eos_token_ids"]) == ("vllm", "student", [1, 50])
    assert record["weights"].startswith("sha256:") and record["sampling"]["min_p"] == 0.05
    with pytest.raises(ValueError, match="context of 128 tokens"):
        generator.check_prompts(["a" * 120])


def test_seeds_can_be_left_out_and_greedy_asks_once(fake_vllm: type[FakeLLM], student: Path) -> None:
    options = {
        "model_name_or_path": str(student),
        "sampling": SamplingParameters(temperature=0, max_completion_length=9),
    }
    generator = load_generator("vllm", send_seed=False, **options)
    assert [len(completions) for _, completions in generator(["ab", "cd"], 4, seed=0)] == [4, 4]
    assert [(params.n, params.seed) for _, params in fake_vllm.made[0].seen] == [(1, None)] * 2


def test_prompts_come_as_they_are_done_and_the_rest_is_aborted(fake_vllm: type[FakeLLM], student: Path) -> None:
    sampling = SamplingParameters(max_completion_length=16)
    generator: Any = load_generator("vllm", model_name_or_path=str(student), sampling=sampling)
    generated = generator(["a", "b", "c"], 1, seed=0)
    assert next(generated)[0] == 2
    assert len(fake_vllm.made[0].requests) == 2
    generated.close()
    assert not fake_vllm.made[0].requests
    assert sorted(index for index, _ in generator(["a", "b", "c"], 1, seed=0)) == [0, 1, 2]


def test_an_engine_that_died_is_named(
    fake_vllm: type[FakeLLM], student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class EngineDeadError(Exception):
        pass

    def die(llm: FakeLLM) -> list[Any]:
        raise EngineDeadError("EngineCore encountered an issue.")

    sampling = SamplingParameters(max_completion_length=16)
    generator = load_generator("vllm", model_name_or_path=str(student), sampling=sampling)
    monkeypatch.setattr(FakeLLM, "step", die)
    with pytest.raises(RuntimeError, match=r"vLLM's engine has died.*send_seed=False"):
        list(generator(["a"], 1, seed=0))


def test_without_vllm_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ImportError, match=r"not installed here.*pip install -c constraints-vllm\.txt"):
        load_generator("vllm", model_name_or_path="any")


@pytest.mark.parametrize(
    ("prompts", "given", "expected"),
    [
        (["2+2=", "a" * 40], {}, 56),
        (["a" * 250], {}, 256),  # the model's context
        (["2+2="], {"max_model_len": 64}, 64),
        ([], {}, None),
    ],
)
def test_memory_is_reserved_for_the_longest_prompt_and_given_back(
    fake_vllm: type[FakeLLM], student: Path, prompts: list[str], given: dict[str, int], expected: int | None
) -> None:
    sampling = SamplingParameters(max_completion_length=16)
    generator = load_generator(
        "vllm", model_name_or_path=str(student), sampling=sampling, prompts=prompts, llm_kwargs=given
    )
    (llm,) = fake_vllm.made
    assert llm.options.get("max_model_len") == expected
    with pytest.raises(KeyError), closing_generator(generator):
        raise KeyError
    assert llm.is_shut_down
    generator.close()  # once more does no harm


def test_several_processes_are_refused(
    fake_vllm: type[FakeLLM], student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="started in 2 processes, and the engine of each would take the first GPU"):
        load_generator("vllm", model_name_or_path=str(student))
    assert not fake_vllm.made


def test_an_adapter_is_refused(fake_vllm: type[FakeLLM], student: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    adapter = get_peft_model(build_tiny_model(), LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))
    adapter.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match="is an adapter"):
        load_generator("vllm", model_name_or_path=str(tmp_path / "adapter"))
    assert not fake_vllm.made


# vLLM itself, in an environment of its own: `bash scripts/setup_vllm_cpu.sh DIRECTORY` makes one, then
# PACED_TRL_VLLM_PYTHON=DIRECTORY/bin/python pytest -m vllm
VLLM_PYTHON = os.environ.get("PACED_TRL_VLLM_PYTHON")
needs_vllm = [
    pytest.mark.vllm,
    pytest.mark.timeout(900),
    pytest.mark.skipif(VLLM_PYTHON is None, reason="PACED_TRL_VLLM_PYTHON does not name a Python that has vLLM"),
]
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
}
VLLM_PROMPTS = ["2+2=", "3+3=", "abcabc", "1 + 2"]


@pytest.fixture
def vllm_student(tmp_path: Path) -> Path:
    """As tiny as vLLM's CPU kernels allow: a head dimension of 32."""
    model = build_tiny_model(hidden_size=128, head_dim=32, num_key_value_heads=4, intermediate_size=128)
    model.save_pretrained(tmp_path / "student")
    build_tiny_tokenizer().save_pretrained(tmp_path / "student")
    return tmp_path / "student"


def transformers_greedy(student: Path) -> dict[int, str]:
    sampling = SamplingParameters(temperature=0, max_completion_length=16)
    generator = load_generator("transformers", model_name_or_path=str(student), dtype="float32", sampling=sampling)
    return {index: completions[0].text for index, completions in generator(VLLM_PROMPTS, 1, seed=0)}


class TestOffline:
    pytestmark = needs_vllm

    def test_greedy_completions_are_those_of_transformers(self, vllm_student: Path) -> None:
        script = f"""
            import json, vllm
            from transformers import AutoTokenizer
            from paced_trl.generation.completions import SamplingParameters
            from paced_trl.generation.vllm_engine import VLLMGenerator
            if __name__ == "__main__":
                path, prompts = {str(vllm_student)!r}, {VLLM_PROMPTS!r}
                llm = vllm.LLM(path, dtype="float32", generation_config="vllm", enforce_eager=True)
                tokenizer = AutoTokenizer.from_pretrained(path)
                made = []
                for temperature, n in ((0, 2), (2.0, 4)):
                    sampling = SamplingParameters(temperature=temperature, max_completion_length=16)
                    generator = VLLMGenerator(
                        llm, tokenizer, sampling, eos_token_ids=[1], record={{}}, send_seed=False
                    )
                    made.append([[(c.text, c.num_tokens, c.finish_reason) for c in completions]
                                 for _, completions in sorted(generator(prompts, n, seed=0))])
                print("MADE", json.dumps(made))
        """
        done = subprocess.run(
            [str(VLLM_PYTHON), "-c", textwrap.dedent(script)],
            env=os.environ | ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        greedy, sampled = json.loads(done.stdout.split("MADE ")[1].splitlines()[0])
        assert {index: cs[0][0] for index, cs in enumerate(greedy)} == transformers_greedy(vllm_student)
        assert all(len(completions) == 4 for completions in sampled)
        assert len({tuple(c) for completions in sampled for c in completions}) > 10
        for text, num_tokens, finish_reason in (c for completions in sampled for c in completions):
            assert num_tokens == 16 if finish_reason == "length" else len(text) <= num_tokens - 1


@contextmanager
def vllm_server(student: Path, port: int, log: Path) -> Iterator[str]:
    command = [str(VLLM_PYTHON), "-m", "vllm.entrypoints.cli.main", "serve", str(student), "--port", str(port)]
    command += ["--host", "127.0.0.1", "--served-model-name", "student", "--dtype", "float32", "--enforce-eager"]
    command += ["--max-num-batched-tokens", "64", "--max-num-seqs", "16"]
    import httpx2

    with log.open("wb") as output:
        process = subprocess.Popen(command, env=os.environ | ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            if process.poll() is not None:
                pytest.fail(f"vllm serve ended: {log.read_text(errors='replace')[-3000:]}")
            try:
                if httpx2.get(f"{url}/health", trust_env=False).status_code == 200:
                    break
            except httpx2.HTTPError:
                pass
            time.sleep(1)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)


class TestServer:
    pytestmark = needs_vllm

    def test_a_server_generates_and_one_killed_by_a_seed_is_named(
        self, vllm_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        options = {"model_name_or_path": "student", "tokenizer_name_or_path": str(vllm_student)}
        with vllm_server(vllm_student, 8151, tmp_path / "log") as url:
            for temperature in (0, 2.0):
                sampling = SamplingParameters(temperature=temperature, max_completion_length=16)
                generator = load_generator("openai", base_urls=[url], send_seed=False, sampling=sampling, **options)
                generated = dict(generator(VLLM_PROMPTS, 3, seed=0))
                if temperature == 0:
                    assert {i: c[0].text for i, c in generated.items()} == transformers_greedy(vllm_student)
                assert all(len(completions) == 3 for completions in generated.values())
            # On a CPU a seed ends the engine of vLLM 0.32 where a prompt is prefilled in parts: here above 64 tokens.
            seeded = load_generator("openai", base_urls=[url], sampling=sampling, max_failures=3, **options)
            with pytest.raises(ConnectionError, match=r"No server is left[\s\S]*127.0.0.1:8151"):
                list(seeded(["2+2=3+3=" * 20], 3, seed=0))
