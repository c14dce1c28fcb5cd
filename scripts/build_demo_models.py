"""Build the embedded demo: a tiny teacher, a tiny student, their tokenizer and the problems.

The world is arithmetic modulo 10 with a shown trace. `3+5*2@7=` is read strictly from left to right, and its solution
writes every intermediate result: 3+5=8, 8*2=6, 6@7=1 gives `861`. `@` is a fixed random 10x10 table, so that it can
only be learned by heart. A completion is right when the whole trace is right, so a problem gets harder with every
operation: the student has mastered short chains, is out of its depth on the longest, and a frontier lies between.
That is the situation in which weighting problems by pass rate matters, at a size that trains in seconds on a CPU.

A second skill, reversing a string (`r:3517=` -> `7153`), is known to both models and absent from the training
problems: what the student loses of it while it is distilled is its forgetting (file `retention.jsonl`). Strings are
of digits on purpose: characters that chains never use would be forgotten by the drift of their embeddings alone, which
Adam moves at full rate however small their gradients are.

- The teacher learns chains of 1 to 8 operations.
- The student is smaller and learns chains of 1 to 4; 3 % of its training mix is longer, the longest the rarest.

Everything is drawn from fixed seeds: a rebuild gives the same problems byte for byte, and models equal up to
floating-point rounding. It takes about six minutes of one CPU core.
"""

import argparse
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from tqdm import tqdm
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


TABLE_SEED = 10
OPERATORS = "+*@"
DIGITS = "0123456789"
MAX_LENGTH = 8
# Share of each length in the problems, so that mastered, frontier and hopeless ones are all common.
LENGTH_WEIGHTS = [0.3, 0.3, 0.4, 0.5, 0.5, 2, 2, 1]
PAD, EOS = "<pad>", "<eos>"

_table_rng = random.Random(TABLE_SEED)
TABLE = [[_table_rng.randrange(10) for _ in range(10)] for _ in range(10)]


@dataclass(frozen=True)
class Problem:
    """One problem; `length` counts operations (chains) or characters (strings)."""

    prompt: str
    solution: str
    length: int


def calculate(left: int, operator: str, right: int) -> int:
    """Apply one operator modulo 10."""
    if operator == "+":
        return (left + right) % 10
    if operator == "*":
        return (left * right) % 10
    return TABLE[left][right]


def chain(rng: random.Random, length: int, operators: str = OPERATORS) -> Problem:
    """Draw a chain of `length` operations and its trace."""
    value = rng.randrange(10)
    prompt, solution = str(value), ""
    for _ in range(length):
        operator, right = rng.choice(operators), rng.randrange(10)
        value = calculate(value, operator, right)
        prompt += f"{operator}{right}"
        solution += str(value)
    return Problem(f"{prompt}=", solution, length)


def reversal(rng: random.Random, length: int) -> Problem:
    """Draw a string of `length` digits and its reverse."""
    text = "".join(rng.choice(DIGITS) for _ in range(length))
    return Problem(f"r:{text}=", text[::-1], length)


def teacher_problem(rng: random.Random) -> Problem:
    """The teacher's training mix: chains of every length, and some reversals."""
    if rng.random() < 0.1:
        return reversal(rng, rng.randint(3, MAX_LENGTH))
    return chain(rng, rng.randint(1, MAX_LENGTH))


def student_problem(rng: random.Random) -> Problem:
    """The student's training mix: single-operator chains up to 4, mixed chains of 2 to 4, a few longer, reversals."""
    kind = rng.random()
    if kind < 0.15:
        return reversal(rng, rng.randint(3, MAX_LENGTH))
    if kind < 0.5:
        return chain(rng, rng.randint(1, 4), rng.choice(OPERATORS))
    if kind < 0.53:
        return chain(rng, rng.choices([5, 6, 7, 8], [8, 4, 2, 1])[0])
    return chain(rng, rng.randint(2, 4))


def distinct_problems(draw: Callable[[], Problem], size: int, taken: set[str]) -> list[Problem]:
    """Draw `size` problems whose prompts are not in `taken`, and add them to it."""
    problems: list[Problem] = []
    while len(problems) < size:
        problem = draw()
        if problem.prompt not in taken:
            taken.add(problem.prompt)
            problems.append(problem)
    return problems


def write_jsonl(problems: Iterable[Problem], path: Path) -> None:
    """Write one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(vars(problem)) + "\n" for problem in problems), encoding="utf-8")


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer with one token a character, no template and no token added on its own."""
    characters = sorted(set(DIGITS + OPERATORS + "r:="))
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate([PAD, EOS, *characters])}))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        padding_side="left",
        model_max_length=64,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, hidden_size: int, seed: int) -> LlamaForCausalLM:
    """Initialise a two-layer Llama."""
    torch.manual_seed(seed)
    special = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=4 * hidden_size,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        initializer_range=0.05,
        **special,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(**special)
    return model


def encode(tokenizer: PreTrainedTokenizerFast, problems: list[Problem]) -> dict[str, torch.Tensor]:
    """Pad prompt + solution + EOS on the right; labels cover the completion only."""
    texts = [problem.prompt + problem.solution + EOS for problem in problems]
    batch = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    for row, problem in enumerate(problems):
        labels[row, : len(problem.prompt)] = -100
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    draw: Callable[[random.Random], Problem],
    *,
    name: str,
    seed: int,
    learning_rate: float,
    anneal_steps: int,
    max_steps: int,
    batch_size: int = 128,
    crossed_loss: float = 0.3,
) -> None:
    """Train with AdamW at a constant rate until the loss has dropped, then anneal the rate linearly to zero.

    The loss stays on a plateau until the model finds the circuit that reads the operands, and when that happens
    depends on the seed. A fixed number of steps would anneal some models before it.

    Args:
        anneal_steps: Steps taken after the drop.
        max_steps: Bound on the steps before the drop.
        crossed_loss: Mean loss of 20 steps (nats a token) below which the drop has happened.

    Raises:
        RuntimeError: If the loss has not dropped after `max_steps` steps.
    """
    rng = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    model.train()
    losses: list[float] = []
    annealed = 0
    with tqdm(desc=f"train {name}", mininterval=2) as progress:
        while annealed < anneal_steps:
            rate = learning_rate * min(1.0, (len(losses) + 1) / 50) * (1 - annealed / anneal_steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = model(**encode(tokenizer, [draw(rng) for _ in range(batch_size)])).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            recent = sum(losses[-20:]) / len(losses[-20:])
            if annealed or recent < crossed_loss:
                annealed += 1
            elif len(losses) >= max_steps:
                raise RuntimeError(
                    f"The loss of the {name} is still {recent:.2f} after `max_steps={max_steps}` steps, so it has not "
                    f"learned to read the operands: build with another `--seed`."
                )
            progress.update()
            progress.set_postfix(loss=f"{recent:.3f}", annealed=f"{annealed}/{anneal_steps}")


@torch.no_grad()
def accuracy_by_length(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, problems: list[Problem], num_generations: int = 4
) -> dict[int, float]:
    """Sample at temperature 1 and return the share of exactly right completions for every length."""
    model.eval()
    passed: dict[int, list[bool]] = {}
    batch = tokenizer([problem.prompt for problem in problems], padding=True, return_tensors="pt")
    output = model.generate(  # type: ignore[misc]  # transformers types `self` as a protocol
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=MAX_LENGTH + 2,
        num_return_sequences=num_generations,
    )
    completions = tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :])
    for i, completion in enumerate(completions):
        problem = problems[i // num_generations]
        right = completion.split(EOS)[0] == problem.solution and EOS in completion
        passed.setdefault(problem.length, []).append(right)
    return {length: sum(rights) / len(rights) for length, rights in sorted(passed.items())}


def build_problems(output_dir: Path) -> dict[str, list[Problem]]:
    """Draw and write the four sets of problems; the same bytes on every machine."""
    rng = random.Random(1)
    taken: set[str] = set()

    def draw_chain() -> Problem:
        return chain(rng, rng.choices(range(1, MAX_LENGTH + 1), LENGTH_WEIGHTS)[0])

    problems = {"test": distinct_problems(draw_chain, 400, taken), "train": distinct_problems(draw_chain, 3000, taken)}
    problems["retention"] = distinct_problems(lambda: reversal(rng, rng.randint(3, MAX_LENGTH)), 300, taken)
    problems["dev"] = distinct_problems(draw_chain, 300, taken)  # to choose learning rates on
    for name, rows in problems.items():
        write_jsonl(rows, output_dir / "data" / f"{name}.jsonl")
    return problems


def format_row(name: str, values: Iterable[object]) -> str:
    """Format one line of the closing table."""
    return f"{name:<8}" + "".join(f"{value:>9.3f}" if isinstance(value, float) else f"{value:>9}" for value in values)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Example: python scripts/build_demo_models.py --output_dir /tmp/demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--output_dir",
        type=Path,
        default=Path("recipes/demo"),
        help="where to write teacher/, student/ and data/ (default: recipes/demo)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and training mixes (default: 0)")
    parser.add_argument(
        "--teacher_steps", type=int, default=500, help="teacher's steps after the sharp drop in loss (default: 500)"
    )
    parser.add_argument(
        "--student_steps",
        type=int,
        default=600,
        help="student's steps after its drop (default: 600); fewer leave a weaker student that has mastered less",
    )
    return parser.parse_args()


def main() -> None:
    """Build everything and print what was built."""
    args = parse_args()
    torch.set_num_threads(1)  # models this small are no faster with more, and sums keep their order
    problems = build_problems(args.output_dir)
    tokenizer = build_tokenizer()
    teacher = build_model(tokenizer, hidden_size=96, seed=args.seed)
    student = build_model(tokenizer, hidden_size=64, seed=args.seed + 1)
    train(
        teacher,
        tokenizer,
        teacher_problem,
        name="teacher",
        seed=args.seed,
        learning_rate=3e-3,
        anneal_steps=args.teacher_steps,
        max_steps=2500,
    )
    train(
        student,
        tokenizer,
        student_problem,
        name="student",
        seed=args.seed + 1,
        learning_rate=1.5e-3,
        anneal_steps=args.student_steps,
        max_steps=2500,
    )
    torch.manual_seed(args.seed)
    print("\nShare of completions sampled at temperature 1 that are right, by number of operations")
    print(format_row("", [*range(1, MAX_LENGTH + 1), "reversal"]))
    for name, model in [("teacher", teacher), ("student", student)]:
        accuracy = accuracy_by_length(model, tokenizer, problems["test"])
        reversal_accuracy = accuracy_by_length(model, tokenizer, problems["retention"])
        print(format_row(name, [*accuracy.values(), sum(reversal_accuracy.values()) / len(reversal_accuracy)]))
        if name == "teacher" and min(accuracy.values()) < 0.9:
            raise RuntimeError(
                f"The teacher is right on only {min(accuracy.values()):.0%} of its worst length, so it cannot teach "
                f"that length: raise `--teacher_steps` above {args.teacher_steps} or build with another `--seed`."
            )
        model.save_pretrained(args.output_dir / name)
        build_tokenizer().save_pretrained(args.output_dir / name)  # a used one would save its last padding
    size = sum(path.stat().st_size for name in ("teacher", "student") for path in (args.output_dir / name).iterdir())
    print(f"Wrote {args.output_dir}; the two models and tokenizers take {size:,} bytes")


if __name__ == "__main__":
    main()
