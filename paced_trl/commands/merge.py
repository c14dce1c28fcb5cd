"""`paced-trl merge`: bring stores that were made apart into one."""

from __future__ import annotations

from collections.abc import Sequence

from . import run_command
from .parsing import positional_parser


_DESCRIPTION = """\
Bring the completions of several pass-rate stores into one, each generation once.

  paced-trl merge runs/node-0/pass_rates runs/node-1/pass_rates --output_dir runs/all/pass_rates

The stores must have been made with the same model, verifier, sampling and seed; a field that differs is named. Sources
are not changed. Of a generation that several stores have, the first store's text and verdict are kept. Stopped or
killed, the same command continues.
"""


def run(arguments: Sequence[str]) -> None:
    parser = positional_parser("merge", _DESCRIPTION)
    parser.add_argument("stores", metavar="STORE", nargs="+", help="Directories of the stores to merge.")
    parser.add_argument("--output_dir", required=True, metavar="DEST", help="Directory of the merged store.")
    args = parser.parse_args(arguments)
    from ..store.merging import merge_stores

    counts = merge_stores(args.stores, args.output_dir)
    print(f"Store: {args.output_dir}")
    print(f"{counts.added} completions added, {counts.known} were there already.")


if __name__ == "__main__":
    run_command("merge")
