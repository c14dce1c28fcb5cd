"""`paced-trl inspect`: what is in a store of completions."""

from __future__ import annotations

from collections.abc import Sequence

from . import run_command
from .parsing import positional_parser


_DESCRIPTION = """\
Show what is in a store: the settings it was made under, numbers, verdicts, pass rates, corrupt files, who is writing.
With --problem, --verdict or --max_completions, show completions instead, each with its problem, the gold, and what the
verifier read as the answer.

  paced-trl inspect runs/mine
  paced-trl inspect runs/mine/references
  paced-trl inspect runs/mine/pass_rates --problem id-17
  paced-trl inspect runs/mine/pass_rates --verdict timeout --max_completions 3

A timeout or an unverifiable completion is a failure of the verifier and does not count: reading the completions that
caused it tells why.
"""


def run(arguments: Sequence[str]) -> None:
    from ..store.shards import VERDICTS

    parser = positional_parser("inspect", _DESCRIPTION)
    parser.add_argument("store", metavar="STORE", help="Directory of a store, or of a run: then its pass rates.")
    parser.add_argument("--problem", metavar="ID", help="Show the completions of this problem.")
    parser.add_argument("--verdict", choices=VERDICTS, help="Show the completions with this verdict.")
    parser.add_argument("--max_completions", type=int, metavar="N", help="How many completions to show. Default: 10.")
    args = parser.parse_args(arguments)
    from ..estimation.inspection import describe_completions, describe_store, find_store

    store = find_store(args.store)
    if args.problem is None and args.verdict is None and args.max_completions is None:
        print(describe_store(store))
    else:
        limit = 10 if args.max_completions is None else args.max_completions
        print(describe_completions(store, args.problem, args.verdict, max_completions=limit))


if __name__ == "__main__":
    run_command("inspect")
