"""`paced-trl publish`: a finished run to the Hub, with a card that says what was done."""

from __future__ import annotations

from collections.abc import Sequence

from ..settings import PublishArguments, RepositoryArguments
from . import run_command
from .parsing import parse


_DESCRIPTION = """\
Publish the student of a finished run, private unless --public is given: weights as safetensors, tokenizer, recipe, and
a card with what was done, pass rates, and evaluations with their intervals.

  paced-trl publish --run runs/mine --repo me/student-paced
  paced-trl publish --run runs/mine --repo me/student-paced --dry_run true     # look at runs/mine/publish first
  paced-trl publish --run runs/mine --repo me/student-paced --base_model Qwen/Qwen3-0.6B
  paced-trl publish --run runs/mine --repo me/student-merged --merge true
  paced-trl publish --run runs/mine --repo me/student-paced --pass_rates_repo me/student-pass-rates

The card has the license of the student before training, from its own card or the Hub, or what --license says.
A LoRA run publishes its adapter; --merge merges it into the 16-bit base and refuses if that changes the model. Log in
with `hf auth login` or set HF_TOKEN. What names you, your machine or its directories is refused, not published. An
upload that breaks off loses nothing: the same command continues, and where nothing has changed it makes no commit.
"""


def run(arguments: Sequence[str]) -> None:
    target, publish = parse("publish", [RepositoryArguments, PublishArguments], arguments, description=_DESCRIPTION)
    if target.run is None or target.repo is None:
        missing, example = ("run", "runs/mine") if target.run is None else ("repo", "me/student-paced")
        raise ValueError(f"`{missing}` is not given. Name it, e.g. `--{missing} {example}`.")
    from ..publishing.publish import check_repositories, publish_run, stage_run
    from ..publishing.run import read_published_run

    if target.dry_run:
        for directory in stage_run(target.run, target.repo, publish, pass_rates_repo=publish.pass_rates_repo):
            print(f"Would be published: {directory}")
        return
    # First, so that a run that cannot be published makes no repository.
    read_published_run(target.run, base_model=publish.base_model)
    repositories = check_repositories(target.repo, publish, private=not target.public)
    for url, is_new in publish_run(target.run, repositories, publish):
        print(f"{'Published' if is_new else 'Unchanged'}: {url}")


if __name__ == "__main__":
    run_command("publish")
