"""
A self-test of one card: which paths of this package work on it, how fast, and with how much memory.

    python scripts/check_gpu.py                                    # at most ten minutes, no network; table and JSON
    python scripts/check_gpu.py --model Qwen/Qwen3-1.7B --teacher Qwen/Qwen3-4B     # rates for `plan`: configs only
    paced-trl plan --config recipe.yaml --measured_rates runs/check_gpu/results.json

Weights are the demo's or random. Each check runs in a process that is ended when it takes too long, and a check that
fails is a row and not the end; what this machine has not is skipped, with the reason. The exit code is 1 if a row
failed. Without a GPU the same runs small on the CPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import math
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from paced_trl.run_directory import write_json


ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "recipes" / "demo"
# Seconds that a check may take, where it is not said otherwise.
LIMIT = 150.0


class Skipped(Exception):  # noqa: N818
    """A check that this machine cannot run."""


@dataclasses.dataclass
class Machine:
    """What the checks run on: `model` and `teacher` are where configs of the shapes lie, or None for the default."""

    output: Path
    model: str | None
    teacher: str | None

    def __post_init__(self) -> None:
        import torch

        self.is_gpu = torch.cuda.is_available()
        self.device = torch.device("cuda", 0) if self.is_gpu else torch.device("cpu")

    def need_gpu(self, why: str) -> None:
        if not self.is_gpu:
            raise Skipped(f"no GPU: {why}")

    def config(self, name: str | None) -> Any:
        """Return the config of a model, or one of Qwen3-0.6B's shape (on a CPU: a small one)."""
        from transformers import AutoConfig, Qwen3Config

        if name is not None:
            return AutoConfig.from_pretrained(name)
        shape: dict[str, Any] = {
            "hidden_size": 1024,
            "num_hidden_layers": 28,
            "intermediate_size": 3072,
            "vocab_size": 151936,
        }
        if not self.is_gpu:
            shape = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "vocab_size": 512}
        heads: dict[str, Any] = {
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128 if self.is_gpu else 8,
        }
        return Qwen3Config(**shape, **heads, tie_word_embeddings=True)

    def random_model(self, name: str | None) -> Any:
        import torch
        from transformers import AutoModelForCausalLM

        from paced_trl.generation.models import default_dtype

        torch.manual_seed(0)
        with self.device:
            return AutoModelForCausalLM.from_config(self.config(name), dtype=default_dtype(self.device)).eval()


Figures = dict[str, Any]
CHECKS: dict[str, tuple[Callable[[Machine], tuple[str, Figures]], float]] = {}


def check(name: str, limit: float = LIMIT) -> Callable[[Any], Any]:
    """Make a check of a function that returns what it found, in words and as figures, and raises where it fails."""

    def register(run: Any) -> Any:
        CHECKS[name] = (run, limit)
        return run

    return register


def demo_problems(number: int) -> Any:
    """The demo's first problems with counts, references and contexts."""
    from paced_trl import load_problems

    problems = load_problems(str(DEMO / "data/train.jsonl"), reference_column="solution", max_problems=number)
    columns = {"num_passed": [row % 5 for row in range(number)], "num_valid": [4] * number}
    columns["privileged_context"] = ["1+1"] * number  # type: ignore[list-item]
    for name, values in columns.items():
        problems = problems.add_column(name, values)
    return problems


def demo_generator(model: Any, **options: Any) -> Any:
    from paced_trl import SamplingParameters, TransformersGenerator
    from paced_trl.generation.models import load_tokenizer

    limits = {name: options.pop(name) for name in ("batch_size", "batch_tokens") if name in options}
    return TransformersGenerator(model, load_tokenizer(DEMO / "student"), SamplingParameters(**options), **limits)


@check("engine: the CPU's completions")
def engine_equals_cpu(machine: Machine) -> tuple[str, Figures]:
    from paced_trl.generation.models import load_model

    prompts = list(demo_problems(48)["prompt"])
    shares = {}
    for name, options in {
        "greedy": {"temperature": 0.0},
        "sampled": {},
        "all parameters": {"top_p": 0.9, "top_k": 5, "min_p": 0.05, "repetition_penalty": 1.1},
    }.items():
        there, here = (
            dict(
                demo_generator(
                    load_model(DEMO / "student", device=device, dtype="float32"),
                    max_completion_length=16,
                    batch_size=32,
                    **options,
                )(prompts, 4, seed=0)
            )
            for device in (machine.device, "cpu")
        )
        equal = [a.text == b.text for index in here for a, b in zip(there[index], here[index], strict=True)]
        shares[name] = sum(equal) / len(equal)
    # Rounding differs between devices, and a draw can fall on the edge.
    assert min(shares.values()) > 0.97, f"equal completions: {shares}"
    return ", ".join(f"{name} {share:.1%} equal" for name, share in shares.items()), {"equal": shares}


@check("engine: tokens per second", limit=180)
def generating_rates(machine: Machine) -> tuple[str, Figures]:
    prompts, rates = list(demo_problems(64)["prompt"]), {}
    model, length = machine.random_model(machine.model), 256 if machine.is_gpu else 16
    for rows in (16, 64, 256) if machine.is_gpu else (4, 16):
        generator = demo_generator(model, max_completion_length=length, batch_size=rows, batch_tokens=10**7)
        # Random weights: an id that is hardly ever drawn ends no completion early.
        generator.eos_token_ids = [model.config.get_text_config().vocab_size - 1]
        list(generator(prompts[:2], 1, seed=1))
        begin = time.perf_counter()
        made = dict(generator(prompts[: rows // 4], 4, seed=0))
        tokens = sum(completion.num_tokens for completions in made.values() for completion in completions)
        rates[str(rows)] = tokens / (time.perf_counter() - begin)
    said = ", ".join(f"{rows} at once: {rate:,.0f}/s" for rows, rate in rates.items())
    return said, {"rates": {"student": shape_of(machine.config(machine.model)), "generating": rates}}


@check("engine: out of memory loses nothing")
def recovers_from_out_of_memory(machine: Machine) -> tuple[str, Figures]:
    import torch

    machine.need_gpu("a CPU's memory has no limit to set")
    model, prompts = machine.random_model(None), list(demo_problems(64)["prompt"])
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, 6 * 2**30 / total))
    generator = demo_generator(model, max_completion_length=384, batch_size=512, batch_tokens=10**7)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            made = dict(generator(prompts, 8, seed=0))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    counts = {len(completions) for completions in made.values()}
    assert len(made) == 64 and counts == {8}, f"{len(made)} of 64 prompts, with {sorted(counts)} of 8 completions"
    times = sum("memory" in str(each.message) for each in said)
    assert times > 0, "6 GiB were enough for 512 completions"
    return f"64 prompts with 8 completions each in 6 GiB; memory ran out {times} times", {}


def plain_divergence(name: str, student: Any, teacher: Any) -> Any:
    """The definition, of log-probabilities of shape (N, V)."""

    def kl(of: Any, to: Any) -> Any:
        return (of.exp() * (of - to)).sum(dim=-1)

    if name != "jsd":
        return kl(teacher, student) if name == "forward" else kl(student, teacher)
    middle = student.logaddexp(teacher) - math.log(2)
    return 0.5 * (kl(student, middle) + kl(teacher, middle))


@check("divergence: TRL's kernels against plain logits")
def divergence_equals_logits(machine: Machine) -> tuple[str, Figures]:
    import torch
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    num, hidden, vocab = (512, 1024, 151936) if machine.is_gpu else (32, 16, 500)
    torch.manual_seed(0)
    states, heads = (
        [torch.randn(size, hidden, device=machine.device) * scale for _ in range(2)]
        for size, scale in ((num, 1.0), (vocab, 16 / hidden))
    )
    errors: dict[str, list[float]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        for name, beta in (("forward", 0.0), ("reverse", 1.0), ("jsd", 0.5)):
            student, teacher = (state.detach().to(dtype, copy=True) for state in states)
            weight, teacher_weight = (head.to(dtype) for head in heads)
            student.requires_grad_()
            found, _ = ChunkedDivergenceFunction.apply(student, weight, None, teacher, teacher_weight, None, beta)
            found.sum().backward()
            exact = student.detach().float().requires_grad_()
            p = (exact @ weight.float().T).log_softmax(-1)
            q = (teacher.float() @ teacher_weight.float().T).log_softmax(-1)
            expected = plain_divergence(name, p, q)
            expected.sum().backward()
            assert exact.grad is not None and student.grad is not None
            value = ((found - expected).abs() / expected.abs().clamp(min=1e-3)).max()
            gradient = (student.grad.float() - exact.grad).norm() / exact.grad.norm()
            errors[f"{name} {str(dtype).removeprefix('torch.')}"] = [value.item(), gradient.item()]
    worst = max(max(pair) for pair in errors.values())
    assert worst < 0.05, f"relative errors of values and gradients: {errors}"
    return f"largest relative error of a value or a gradient {worst:.1e}", {"errors": errors}


_LORA: dict[str, Any] = {"use_peft": True, "lora_r": 4, "lora_dropout": 0.0, "lora_target_modules": ["all-linear"]}
_ESTIMATE: dict[str, Any] = {"refresh": "estimate", "refresh_steps": 2, "refresh_num_generations": 2}
_SELF: dict[str, Any] = {"kl": "reverse", "self_distillation": "ema"}
# The demo's tokenizer has no brackets.
_SELF["privileged_template"] = "{privileged_context}+{prompt}"
# Name: settings of the run, settings of the student, what must be installed.
RUNS: dict[str, tuple[dict[str, Any], dict[str, Any], str | None]] = {
    "both stages": ({"bf16": False}, {}, None),
    "both stages, default precision": ({}, {}, None),
    "pass rates online, 4 per prompt": ({"num_train_generations": 4, "refresh": "online"}, {}, None),
    "pass rates measured again, drawn": ({**_ESTIMATE, "apply_weights": "sampling"}, {}, None),
    "adaptive KL, checkpointed": ({"kl": "akl", "activation_checkpointing": True}, {}, None),
    "teacher's states on disk": ({"kl": "forward", "teacher_cache": "states"}, {}, None),
    "LoRA in bfloat16": (_ESTIMATE, {**_LORA, "dtype": "bfloat16"}, None),
    "its own teacher, averaged": (_SELF, _LORA, None),
    "QLoRA": ({}, {**_LORA, "load_in_4bit": True, "dtype": "bfloat16"}, "bitsandbytes"),
    "4-bit teacher": ({"teacher_load_in_4bit": True}, {}, "bitsandbytes"),
    "torch.compile": ({"torch_compile": True}, {}, "triton"),
}


def wide_teacher(directory: str) -> str:
    """Save a random teacher whose matrices 4-bit kernels of every device take: the demo's has 96 columns."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from paced_trl.generation.models import load_tokenizer

    width = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "head_dim": 32}
    config = AutoConfig.from_pretrained(DEMO / "teacher", **width)
    AutoModelForCausalLM.from_config(config).save_pretrained(f"{directory}/teacher")
    load_tokenizer(DEMO / "teacher").save_pretrained(f"{directory}/teacher")
    return f"{directory}/teacher"


def train(machine: Machine, given: dict[str, Any], student: dict[str, Any], **more: Any) -> list[float]:
    """Train the demo's student for four steps and return the losses."""
    from trl import ModelConfig

    from paced_trl import PacedConfig, load_verifier
    from paced_trl.training.run import distill

    settings = {
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "max_completion_length": 16,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "activation_checkpointing": False,
        "use_cpu": not machine.is_gpu,
        **given,
        **more,
    }
    with tempfile.TemporaryDirectory(dir=machine.output) as directory, load_verifier("exact") as verifier:
        if "teacher_cache" in settings:
            settings["teacher_cache"] = f"{directory}/states"
        if "self_distillation" not in settings:
            in_4bit = settings.get("teacher_load_in_4bit")
            settings["teacher_model_name_or_path"] = wide_teacher(directory) if in_4bit else str(DEMO / "teacher")
        args = PacedConfig(output_dir=f"{directory}/run", **settings)
        model = ModelConfig(model_name_or_path=str(DEMO / "student"), **student)
        done = distill(args, model, demo_problems(32), verifier=verifier)
    losses = [entry["loss"] for entry in done.log_history if "loss" in entry]
    assert len(losses) == 4 and all(math.isfinite(loss) for loss in losses), f"losses {losses}"
    return losses


def _check_of_run(name: str) -> Callable[[Machine], tuple[str, Figures]]:
    def run(machine: Machine) -> tuple[str, Figures]:
        settings, student, package = RUNS[name]
        if package is not None and find_spec(package) is None:
            raise Skipped(f"{package} is not installed")
        if name == "torch.compile":
            machine.need_gpu("compiling takes minutes on a CPU")
        losses = train(machine, settings, student)
        said = "losses " + " ".join(f"{loss:.3f}" for loss in losses)
        if name == "both stages" and machine.is_gpu:
            expected = train(machine, settings, student, use_cpu=True)
            # The two on references: the student's own completions differ by rounding.
            pairs = list(zip(losses[:2], expected[:2], strict=True))
            assert all(math.isclose(*pair, rel_tol=0.01) for pair in pairs), f"{losses}, on the CPU {expected}"
            said += ", the first two as on the CPU"
        return said, {"losses": losses}

    return run


for _name in RUNS:
    check(f"train: {_name}", limit=200 if _name == "torch.compile" else LIMIT)(_check_of_run(_name))


@check("train: matrices in bfloat16")
def loss_is_in_bfloat16(machine: Machine) -> tuple[str, Figures]:
    import torch

    seen: set[str] = set()

    def look(module: torch.nn.Module, _: Any, out: Any) -> None:
        if isinstance(module, torch.nn.Linear) and torch.is_grad_enabled():
            seen.add(str(out.dtype).removeprefix("torch."))

    hook = torch.nn.modules.module.register_module_forward_hook(look)
    try:
        train(machine, {"bf16": True, "kl": "forward"}, {})
    finally:
        hook.remove()
    assert seen == {"bfloat16"}, f"linear layers computed with gradients in {sorted(seen)}"
    return "all linear layers with gradients", {}


@check("train: a step of LoRA, rate and memory", limit=180)
def training_rate(machine: Machine) -> tuple[str, Figures]:
    import torch
    from peft import LoraConfig
    from transformers import TrainerCallback

    from paced_trl import PacedConfig, PacedTrainer
    from paced_trl.generation.models import load_tokenizer

    length, steps = (256, 8) if machine.is_gpu else (16, 3)
    peaks: list[int] = []
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if machine.is_gpu:
                torch.cuda.synchronize()
                peaks.append(torch.cuda.max_memory_allocated())
            ends.append(time.perf_counter())

    # The demo's tokens are characters; a reference gets an end besides.
    data: dict[str, list[Any]] = {
        "prompt": ["1" * length],
        "reference": ["2" * (length - 1)],
        "num_passed": [1],
        "num_valid": [2],
    }
    from datasets import Dataset

    with tempfile.TemporaryDirectory(dir=machine.output) as directory:
        args = PacedConfig(
            output_dir=directory,
            kl="forward",
            max_steps=steps,
            per_device_train_batch_size=4,
            max_completion_length=length,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not machine.is_gpu,
        )
        PacedTrainer(
            model=machine.random_model(machine.model),
            teacher_model=machine.random_model(machine.teacher or machine.model),
            args=args,
            train_dataset=Dataset.from_dict({name: values * 4 * steps for name, values in data.items()}),
            processing_class=load_tokenizer(DEMO / "student"),
            peft_config=LoraConfig(r=32, target_modules="all-linear", task_type="CAUSAL_LM"),
            callbacks=[Clock()],
        ).train()
    rate = 4 * 2 * length * (steps - 2) / (ends[-1] - ends[1])
    rates = {"student": shape_of(machine.config(machine.model)), "training": rate}
    rates["teacher"] = shape_of(machine.config(machine.teacher or machine.model))
    said = f"{rate:,.0f} tokens/s at 4 x {2 * length}"
    if not machine.is_gpu:
        return f"{said}; memory is not counted on a CPU", {"rates": rates}
    planned, measured = planned_bytes(machine, args, length), max(peaks)
    gib = f"planned {planned / 2**30:.2f} GiB, measured {measured / 2**30:.2f}"
    assert measured < 1.15 * planned, f"{gib}: `plan` says too little"
    return f"{said}; {gib}", {"rates": rates, "planned_bytes": planned, "measured_bytes": measured}


def planned_bytes(machine: Machine, args: Any, length: int) -> int:
    """What `plan` says of that step, but for the driver's part."""
    from trl import ModelConfig

    from paced_trl.settings import EstimationArguments, PlanArguments, TrainArguments
    from paced_trl.training.memory import config_key
    from paced_trl.training.plan import RunShape, memory

    keys = [config_key(machine.config(name)) for name in (machine.model, machine.teacher or machine.model)]
    shape = RunShape(
        student=keys[0],
        teacher=keys[1],
        args=args,
        model_args=ModelConfig(use_peft=True, lora_r=32, dtype="bfloat16"),
        estimation=EstimationArguments(),
        train=TrainArguments(),
        plan=PlanArguments(prompt_tokens=length),
        num_problems=1,
        writes_references=False,
    )
    items = memory(shape)["train, a step"]
    return sum(items.values()) - items["driver and libraries"]


def shape_of(config: Any) -> dict[str, int]:
    """What tells models of different size apart."""
    from paced_trl.training.memory import config_key
    from paced_trl.training.plan import figures_of_shape

    return figures_of_shape(config_key(config))


@check("train: memory is given back")
def memory_is_given_back(machine: Machine) -> tuple[str, Figures]:
    import torch

    machine.need_gpu("memory is not counted on a CPU")
    train(machine, {}, {})
    gc.collect()
    before = torch.cuda.memory_allocated()
    train(machine, {}, {})
    held = (torch.cuda.memory_allocated() - before) / 2**20
    assert held < 1, f"{held:.1f} MiB are held after a run"
    return f"{held:.1f} MiB held after a run", {}


@check("commands: estimate, train, compare, evaluate from one file", limit=240)
def commands_of_one_file(machine: Machine) -> tuple[str, Figures]:
    import yaml

    from paced_trl.commands import main as command_line

    settings = yaml.safe_load((DEMO / "recipe.yaml").read_text())
    settings |= {"max_problems": 64, "num_generations": 2, "num_eval_generations": 1, "max_steps": 2}
    settings |= {"arms": ["uniform"], "curve_points": 1, "output_dir": str(machine.output / "commands")}
    file = machine.output / "commands.yaml"
    file.write_text(yaml.safe_dump(settings))
    seconds: dict[str, float] = {}
    for command in ("estimate", "train", "compare", "evaluate"):
        begin = time.perf_counter()
        try:
            command_line([command, "--config", str(file)])
        except SystemExit as ended:
            assert not ended.code, f"{command} ended with {ended.code!r}"
        seconds[command] = time.perf_counter() - begin
    return ", ".join(f"{command} {time:.0f} s" for command, time in seconds.items()), {"seconds_by_command": seconds}


def work(names: list[str], options: dict[str, Any], results: Any) -> None:
    """Run checks one after the other in this process and send what each found."""
    # What libraries and commands print goes to a file, the table to the terminal.
    log = os.open(Path(options["output"]) / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(ROOT)
    import torch

    results.send({"about": describe()})
    machine = Machine(**options)
    for name in names:
        results.send({"check": name})
        print(f"\n##### {name}", flush=True)
        if machine.is_gpu:
            torch.cuda.reset_peak_memory_stats()
        begin = time.perf_counter()
        figures: Figures = {}
        try:
            said, figures = CHECKS[name][0](machine)
            outcome = "ok"
        except Skipped as reason:
            outcome, said = "skipped", str(reason)
        except Exception as error:
            traceback.print_exc()
            outcome, said = "failed", f"{type(error).__name__}: {error}"[:600]
        row = {"check": name, "outcome": outcome, "said": said, "seconds": time.perf_counter() - begin, **figures}
        if machine.is_gpu:
            row["peak_bytes"] = torch.cuda.max_memory_allocated()
        results.send(row)
        gc.collect()
        if machine.is_gpu:
            torch.cuda.empty_cache()


def run_checks(names: list[str], options: dict[str, Any], seconds: float) -> Iterator[dict[str, Any]]:
    """Yield what the machine is, and a row for each check; end a process that takes longer than a check may."""
    end, waiting = time.monotonic() + seconds, list(names)
    while waiting and time.monotonic() < end:
        here, there = multiprocessing.get_context("spawn").Pipe()
        process = multiprocessing.get_context("spawn").Process(target=work, args=(waiting, options, there))
        process.start()
        there.close()
        limit = 120.0  # to start, and load the libraries
        is_working = True
        while waiting and is_working:
            left = end - time.monotonic()
            row: dict[str, Any] = {"check": waiting[0], "outcome": "failed" if limit <= left else "skipped"}
            try:
                is_working = here.poll(max(0.0, min(limit, left)))
                row |= here.recv() if is_working else {"said": f"not done after {min(limit, left):.0f} s"}
            except EOFError:
                process.join()
                is_working = False
                row |= {"outcome": "failed", "said": f"the process ended with code {process.exitcode}; see log.txt"}
            if "about" in row:
                yield row
            elif "said" in row:
                waiting = waiting[1:]
                # A device may be in disorder after an error: the next check gets another process.
                is_working = is_working and row["outcome"] != "failed"
                yield row
            else:
                limit = CHECKS[row["check"]][1]
        if is_working:
            process.join(20)
        process.kill()
        process.join()
    for name in waiting:
        yield {"check": name, "outcome": "skipped", "said": "no time is left"}


def describe() -> dict[str, Any]:
    """Return which card and which versions these are."""
    import torch

    card: dict[str, Any] = {"card": "none (CPU)", "memory_bytes": None, "capability": None}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        card = {"card": properties.name, "memory_bytes": properties.total_memory}
        card["capability"] = f"{properties.major}.{properties.minor}"
    packages = ("paced_trl", "torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes", "triton")
    return {
        **card,
        "cuda": torch.version.cuda,
        "python": sys.version.split()[0],
        "versions": {name: version(name) for name in packages if find_spec(name) is not None},
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/check_gpu"))
    parser.add_argument("--model", help="A student whose shape the rates and the memory are measured with.")
    parser.add_argument("--teacher", help="Its teacher. Default: the shape of the student.")
    parser.add_argument("--minutes", type=float, default=10.0, help="Checks after that are skipped.")
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="Checks whose name has one of these.")
    args = parser.parse_args()
    names = [name for name in CHECKS if any(word in name for word in args.only)]
    if not names:
        parser.error(f"no check has {args.only} in its name; there are: {'; '.join(CHECKS)}")
    shutil.rmtree(args.output, ignore_errors=True)
    args.output.mkdir(parents=True)
    options = {"output": args.output.resolve(), "model": args.model, "teacher": args.teacher}
    about: dict[str, Any] = {}
    rows = []
    for row in run_checks(names, options, 60 * args.minutes):
        if "about" in row:
            about = row["about"]
            continue
        rows.append(row)
        print(f"  {row['outcome']:<8}{row.get('seconds', 0):6.1f} s  {row['check']}", flush=True)
    rates: dict[str, Any] = {}
    for row in rows:
        rates |= row.pop("rates", {})
    write_json(args.output / "results.json", {**about, "rates": rates, "checks": rows})
    packages = ", ".join(f"{name} {number}" for name, number in about.get("versions", {}).items())
    table = Table("check", "outcome", "s", "GiB", "what was found", title=f"{about.get('card')}; {packages}")
    for row in rows:
        gib = f"{row['peak_bytes'] / 2**30:.1f}" if "peak_bytes" in row else ""
        table.add_row(row["check"], row["outcome"], f"{row.get('seconds', 0):.1f}", gib, escape(row["said"]))
    Console().print(table)
    counts = Counter(row["outcome"] for row in rows)
    print(f"{counts['ok']} ok, {counts['failed']} failed, {counts['skipped']} skipped: {args.output / 'results.json'}")
    return int(counts["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
