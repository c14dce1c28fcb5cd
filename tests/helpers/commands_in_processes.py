"""Script of test_commands_in_processes.py: call commands one after the other, and write what each process printed."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState

from helpers.fakes import FakeGenerator, exact_verifier, make_problems
from helpers.processes import list_threads
from paced_trl.commands import run_command
from paced_trl.evaluation.evaluation import evaluate_model


def main(directory: str, commands: str, ports: str) -> None:
    # As the launcher set it, for every command anew, but for a port of its own: where an earlier command's processes
    # met, addresses stand that are no longer used.
    environment = os.environ | {"TORCHELASTIC_USE_AGENT_STORE": "False"}
    meet_at = json.loads(ports)
    written: dict[str, Any] = {}
    for name, arguments in json.loads(commands).items():
        os.environ.clear()
        os.environ.update(environment | {"MASTER_PORT": meet_at[name]})
        with redirect_stdout(io.StringIO()) as output:
            if name == "evaluate_model":
                evaluated = evaluate_model(make_problems(5), FakeGenerator(), exact_verifier, name="test")
                print(json.dumps(evaluated.to_dict()))
            else:
                run_command(name, arguments)
                # A command ends its process, and with it what accelerate knows of the others.
                AcceleratorState._reset_state(reset_partial_state=True)
        written[name] = output.getvalue()
    (Path(directory) / f"printed-{environment['RANK']}.json").write_text(json.dumps(written))
    list_threads(f"{directory}/printed", environment["RANK"])


if __name__ == "__main__":
    main(*sys.argv[1:])
