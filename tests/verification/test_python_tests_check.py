"""Programs under their tests: right, wrong, hostile and deceitful ones, and what is left behind of them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import ROOT
from helpers.programs import DECEITS, HELPER_BLOCK, HOARDS, VALUES, WITHOUT_NAMESPACES
from paced_trl.verification.python_gold import read_tests
from paced_trl.verification.python_tests_check import candidate_program
from paced_trl.verification.sandbox import Sandbox, SandboxError
from paced_trl.verification.verdict import Verdict
from paced_trl.verification.verifier import Verifier, load_verifier


P, F, U, V = Verdict.PASSED, Verdict.FAILED, Verdict.UNPARSEABLE, Verdict.UNVERIFIABLE


needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
pytestmark = needs_bubblewrap


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with load_verifier("python_tests", allow_code_execution=True, time_limit=3.0, num_workers=2) as verifier:
        yield verifier


ADD = "def add(a, b):\n    return a + b\n"
TESTS = "assert add(1, 2) == 3\nassert add(-1, 1) == 0"
PAIRS = [{"input": "1 2\n", "output": "3\n"}, {"input": "5 -5\n", "output": "0"}]

NORMAL = [
    (ADD, TESTS, P),
    (f"Here it is:\n```python\n{ADD}```\nDone.", TESTS, P),
    (f"```py\n{ADD}```", [*TESTS.split("\n")], P),
    (f"<think>```python\nadd = 1\n```</think>```python\n{ADD}```", TESTS, P),
    (f"```python\ndef add(a, b): return 0\n```\nBetter:\n```python\n{ADD}", TESTS, P),
    ("```python\nfrom math import fsum\nadd = lambda *x: fsum(x)\n```", TESTS, P),
    ("```python\nclass A:\n    def __call__(self, a, b): return a + b\nadd = A()\n```", TESTS, P),
    ("```python\ndef add(a, b): return a - b\n```", TESTS, F),
    ("```python\ndef plus(a, b): return a + b\n```", TESTS, F),
    ("```python\ndef add(a, b): return a +\n```", TESTS, F),
    ("```python\nraise ValueError\n```", TESTS, F),
    ("```python\ndef add(a, b): return add(a, b)\n```", TESTS, F),
    ("I cannot do that.", TESTS, U),
    ("", TESTS, U),
    ("```python\n\n```", TESTS, U),
    (ADD, "def test_it():\n    assert add(1, 2) == 3", P),
    (ADD, "def test_it():\n    assert add(1, 2) == 4", F),
    (ADD, "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(add(1, 2), 3)", P),
    (ADD, "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(add(1, 2), 4)", F),
    ("a, b = map(int, input().split())\nprint(a + b)", PAIRS, P),
    ("import sys\nprint(sum(map(int, sys.stdin.read().split())), end='\\n\\n')\nsys.exit(0)", PAIRS, P),
    ("if __name__ == '__main__':\n    print(3)", PAIRS, F),
    ("print(sum(map(int, input().split())))\nraise SystemExit(1)", PAIRS, F),
    ("print(sum(map(int, input().split())))", {"inputs": ["1 2"], "outputs": ["3"]}, P),
    ("print(sum(map(int, input().split())))", '[{"input": "1 2", "output": "3 "}]', P),
    (ADD, "", V),
    (ADD, None, V),
    (ADD, [], V),
    (ADD, "assert add(1, 2) ==", V),
    (ADD, "def check(candidate):\n    assert candidate(1, 2) == 3", V),
    (ADD, "import math", V),
    (ADD, [{"input": "1"}], V),
    (ADD, {"inputs": ["1"], "outputs": []}, V),
    (ADD, "[" * 9000, V),
]


def test_programs_and_tests_of_every_form(verifier: Verifier) -> None:
    verdicts = verifier([row[0] for row in NORMAL], [row[1] for row in NORMAL])
    assert [(*row, str(v)) for row, v in zip(NORMAL, verdicts, strict=True) if row[2] is not v] == []
    golds = verifier.check_solutions([row[1] for row in NORMAL])
    assert [gold is V for gold in golds] == [row[2] is V for row in NORMAL]


def test_humaneval_tests_call_the_entry_point(verifier: Verifier) -> None:
    tests = "def check(candidate):\n    assert candidate(1, 2) == 3\n"
    assert verifier([ADD, ADD.replace("+", "*")], [tests] * 2, entry_point=["add"] * 2) == [P, F]
    assert verifier.check_solutions([tests] * 2, entry_point=["add", "os.abort()"]) == [P, V]


# Each would pass if an exit code, an output, or a patched name decided.
CHEATS = [
    "import sys; sys.exit(0)",
    "import os; os._exit(0)",
    "raise SystemExit",
    "def add(a, b):\n    import os; os._exit(0)",
    "def add(a, b): raise SystemExit(0)",
    "def add(a, b):\n    print('passed', 'OK', '1 passed'); exit()",
    "import builtins\nbuiltins.AssertionError = type('X', (Exception,), {})\ndef add(a, b): return 0",
    "import builtins\nbuiltins.exec = builtins.compile = lambda *a, **k: None\ndef add(a, b): return 0",
    "import os\nos.write = os._exit = lambda *a: None\ndef add(a, b): return 0",
    "import os\nfor d in range(3, 30):\n    try: os.write(d, b'R' + b'0' * 32)\n    except OSError: pass",
    "import atexit, os\natexit.register(os._exit, 0)\ndef add(a, b): return 0",
    "import threading, os, time\nthreading.Timer(0.05, os._exit, [0]).start()\ntime.sleep(1)",
    "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\ndef add(a, b): return 0",
    "import os\nif os.fork(): os._exit(0)\ndef add(a, b): return 0",
]


def test_ending_early_printing_and_patching_do_not_pass(verifier: Verifier) -> None:
    verdicts = verifier(CHEATS, [TESTS] * len(CHEATS))
    assert [cheat for cheat, verdict in zip(CHEATS, verdicts, strict=True) if verdict is not F] == []


def test_patched_builtins_do_not_reach_the_tests(verifier: Verifier) -> None:
    program = "import builtins\nbuiltins.sorted = lambda x: []\ndef f(): return [2]"
    assert verifier([program], ["assert sorted(f()) == sorted([1])"]) == [F]


ENDLESS = [
    "while True: pass",
    "def add(a, b):\n    while True: pass",
    "import time; time.sleep(1000)",
    "def add(a, b): return 9 ** 9 ** 9",
    "import signal\nfor s in (1, 2, 3, 14, 15, 24, 27): signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
]


def test_endless_programs_fail_within_the_time_limit(verifier: Verifier) -> None:
    began = time.monotonic()
    assert verifier(ENDLESS, [TESTS] * len(ENDLESS)) == [F] * len(ENDLESS)
    assert time.monotonic() - began < 3.0 * len(ENDLESS) + 5


def test_time_limit_is_for_all_pairs_together() -> None:
    with load_verifier("python_tests", allow_code_execution=True, time_limit=1.0, num_workers=1) as verifier:
        began = time.monotonic()
        program = "import time; time.sleep(0.4); print(1)"
        assert verifier([program], [[{"input": "", "output": "1"}] * 20]) == [F]
        assert time.monotonic() - began < 8


BOMBS = [
    "x = bytearray(8 * 1024**3)",
    "x = [0]\nwhile True: x += x",
    "while True: print('x' * 10**6)",
    "open('big', 'wb').write(b'x' * 100 * 1024**2)",
    "[open('f') if i else open('f', 'w') for i in range(1000)]",
]


def test_bombs_fail(verifier: Verifier) -> None:
    assert verifier(BOMBS, [PAIRS] * len(BOMBS)) == [F] * len(BOMBS)
    assert verifier([bomb + "\n" + ADD for bomb in BOMBS[:2]], [TESTS] * 2) == [F] * 2


def processes_with(text: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_fork_bomb_is_bounded_and_no_process_outlives_its_run(verifier: Verifier) -> None:
    bomb = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError: pass"
    counter = (
        "import os, time\nn = 0\ntry:\n    for n in range(1000):\n        if not os.fork(): time.sleep(100)\n"
        "except OSError: pass\ndef forked(): return n"
    )
    escaping = (
        "import os, time\nif not os.fork():\n    os.setsid()\n    if not os.fork(): time.sleep(100)\ndef f(): return 1"
    )
    tests = ["assert f()", "assert 0 < forked() < 20", "assert f() == 1"]
    assert verifier([bomb, counter, escaping], tests) == [F, P, P]
    end = time.monotonic() + 5
    while processes_with("sandboxed_program"):
        assert time.monotonic() < end, "a process of a sandbox is still there"
        time.sleep(0.05)


def test_no_network_no_files_no_processes(verifier: Verifier, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    os.chmod(tmp_path, 0o777)
    probe = f"""
import os, socket, pathlib
def connects():
    for address in (("127.0.0.1", 80), ("192.0.2.1", 80)):
        try:
            socket.create_connection(address, timeout=1)
            return True
        except OSError as error:
            if error.errno not in (101, 111): return True
    return len(socket.if_nameindex()) > 1
def writes():
    done = []
    for path in ({str(tmp_path / "mine")!r}, {str(tmp_path / "new")!r}, "/tmp/paced_trl_escape", "/dev/shm/x",
                 os.path.expanduser("~root/x"), "/etc/x"):
        try:
            pathlib.Path(path).write_text("x")
            done.append(path)
        except OSError: pass
    try: os.remove({str(tmp_path / "mine")!r}); done.append("removed")
    except OSError: pass
    return done
def own():
    pathlib.Path("file").write_text("x")
    return os.listdir(".") == ["file"] and os.getcwd() == os.environ["HOME"]
def others(): return [p for p in os.listdir("/proc") if p.isdigit() and int(p) not in (1, os.getpid())]
def mine(): return "PACED_TRL_SECRET" not in os.environ and os.getuid() != 0
def privileges():
    import ctypes
    return ctypes.CDLL(None).mount(b"none", b"/", None, 32 | 4096, None) == 0
"""
    tests = (
        "assert not connects()\nassert writes() == []\nassert own()\nassert others() == []\nassert not privileges()\n"
        "assert mine()"
    )
    tests += "\nimport os\nassert 'PACED_TRL_SECRET' not in os.environ and os.getuid() != 0"
    os.environ["PACED_TRL_SECRET"] = "token"
    try:
        assert verifier([probe], [tests]) == [P]
    finally:
        del os.environ["PACED_TRL_SECRET"]
    assert (tmp_path / "mine").read_text() == "kept"


# As a user other than root, and inside namespaces of its own, where a hostile program ends itself only.
AS_A_USER = ["bwrap", "--unshare-all", "--unshare-user", "--uid", "1000", "--gid", "1000", "--die-with-parent"]
AS_A_USER += ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/mnt"]


def test_without_namespaces_limits_hold_and_the_process_group_ends() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": "/mnt"}
    subprocess.run([*AS_A_USER, sys.executable, "-B", "-c", WITHOUT_NAMESPACES], check=True, env=environment)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused")
def test_root_may_not_do_without_namespaces() -> None:
    with pytest.raises(ValueError, match=r"run as root could end every process of the machine.*other than root"):
        load_verifier("python_tests", allow_code_execution=True, isolation="process")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "executes programs that a model wrote. Set its option `allow_code_execution: true`"),
        ({"allow_code_execution": "yes"}, "`allow_code_execution` is .yes., but it must be true or false"),
        ({"allow_code_execution": True, "isolation": "docker"}, "`isolation` must be .* not 'docker'"),
        ({"allow_code_execution": True, "time_limit": 0}, "`time_limit` must be in"),
        ({"allow_code_execution": True, "float_tolerance": -1}, "`float_tolerance` must be a finite number"),
        ({"allow_code_execution": True, "memory_limit": 1}, "`memory_limit` must be at least 64 MiB"),
    ],
)
def test_refused_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_verifier("python_tests", **options)


def test_refused_where_the_kernel_grants_no_isolation(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Sandbox) -> None:
        raise SandboxError("unshare: Operation not permitted")

    monkeypatch.setattr(Sandbox, "probe", refuse)
    with pytest.raises(ValueError, match=r"cannot be set up here \(unshare: Operation not permitted\).*isolation"):
        load_verifier("python_tests", allow_code_execution=True)


def test_refused_without_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match=r"`bwrap`, is not installed.*apt-get install bubblewrap.*isolation"):
        load_verifier("python_tests", allow_code_execution=True)


def test_sandbox_that_does_not_start_is_no_failure_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = Sandbox("namespaces", 1024**3)
    monkeypatch.setattr("paced_trl.verification.sandbox._SCRIPT", Path("/none.py"))
    with pytest.raises(SandboxError, match="ended with exit code 2 before its start"):
        sandbox.run_script("pass", seconds=5.0)
    monkeypatch.undo()
    assert sandbox.run_script("while True: pass", seconds=0.01).reason == "time"


def test_what_counts_as_the_program() -> None:
    assert candidate_program("```python\na = 1\n```\n```\noutput\n```") == "\na = 1\n"
    assert candidate_program("```\na = 1\n```") == "\na = 1\n"
    assert candidate_program("x = 1") == "x = 1" and candidate_program("The answer is 4.") is None
    assert candidate_program("`" * 300_000) is None and candidate_program("```\n" * 100_000) is None
    tests = read_tests("assert f() is 1")
    assert tests is not None and tests.source == "assert f() is 1"


INDENTED = "1. Like this:\n\n   ```python\n   def add(a, b):\n       return a + b\n   ```\n\n2. Done."
EXAMPLE = "```python\ndef add(a, b):\n    return a + b\n```\nFor example:\n```python\nprint(add(1, 2))  # 3\n```"
SCRIPT = "```python\nprint(sum(map(int, input().split())))\n```\nIt prints:\n```python\nprint(3)\n```"
SOLUTION = "class Solution:\n    def add(self, a, b):\n        return a + b"
CALLS = {"fn_name": "add", "inputs": [[1, 2], [-1, 1]], "outputs": [3, [0]]}
FUNCTIONAL = [{"input": "1\n2", "output": "3", "testtype": "functional"}]
FORMS = [
    (INDENTED, TESTS, P),
    (EXAMPLE, TESTS, P),
    (HELPER_BLOCK, TESTS, P),
    (SCRIPT, PAIRS, P),
    (EXAMPLE, CALLS, P),
    (SOLUTION, CALLS, P),
    (ADD.replace("+", "-"), CALLS, F),
    (SOLUTION, json.dumps(CALLS), P),
    ("def plus(a, b): return a + b", CALLS, F),
    ("def add(a, b): return (a + b,)", {**CALLS, "outputs": [[3], [0]]}, P),
    ("def add(a, b): return a + b + 1e-7", CALLS, F),
    (ADD, {**CALLS, "fn_name": ""}, V),
    (ADD, {**CALLS, "inputs": [1, 2]}, V),
    (ADD, FUNCTIONAL, V),
    (ADD, "add(1, 2) == 3", V),
    (ADD, ["add(1, 2) == 3", "add(2, 2) == 4"], V),
    (ADD, "print(add(1, 2))", V),
    (ADD, "result = add(1, 2)", V),
    (ADD, "def helper():\n    assert add(1, 2) == 3", V),
    (ADD, "def helper():\n    assert add(1, 2) == 3\nhelper()", P),
    (ADD, "def test_it():\n    add(1, 2)", V),
    (ADD, "import unittest\nclass T(unittest.TestCase):\n    def test(self): add(1, 2)", V),
    (ADD, "if add(1, 2) != 3: raise ValueError", P),
    (ADD, "from unittest.mock import patch\nassert add(1, 2) == 3", V),
    ("print(sum(map(int, input().split())))", {"inputs": [["1 2", ""]], "outputs": [["3"]]}, P),
    ("print(sum(map(int, open('/dev/stdin').read().split())))", PAIRS, P),
    ("print(0.1 + 0.2)", {"inputs": [""], "outputs": ["0.3"]}, F),
]


MORE_FORMS = [
    ("- Step one\n  - code:\n    ```python\n    def add(a, b):\n        return a + b\n    ```\n", TESTS, P),
    ("* ```python\n  def add(a, b):\n      return a + b\n  ```\n", TESTS, P),
    (
        (
            "```python\ndef add(a, b):\n    return a + b\n```\n\nTests:\n\n```python\n"
            "assert add(1, 2) == 3\nprint('ok')\n```"
        ),
        TESTS,
        P,
    ),
    ("```python\ndef add(a, b):\n    return a + b\n```\nOutput:\n```\n3\n```", TESTS, P),
    ("```python\ndef add(a, b):\n    return a + b\n```\nUsage:\n```bash\npython add.py\n```", TESTS, P),
    (
        (
            "```Python\ndef add(a, b):\n    return a + b\n\nif __name__ == '__main__':\n"
            "    print(add(int(input()), 2))\n```"
        ),
        TESTS,
        P,
    ),
    ("```python\nimport math\n```\n```python\ndef add(a, b):\n    return math.trunc(a + b)\n```", TESTS, P),
    ("~~~python\ndef add(a, b):\n    return a + b\n~~~", TESTS, P),
    ("````python\ndef add(a, b):\n    return a + b\n````", TESTS, P),
    (
        "```python\nn = list(map(int, input().split()))\nprint(sum(n))\n```\nFor `1 2`:\n```python\n>>> 3\n```",
        PAIRS,
        P,
    ),
    (
        (
            "```python\ndef solve(a, b):\n    return a + b\n```\nThen:\n```python\n"
            "a, b = map(int, input().split())\nprint(solve(a, b))\n```"
        ),
        PAIRS,
        P,
    ),
    (
        (
            "```python\nclass Solution:\n    def add(self, a, b):\n        return a + b\n```\n"
            "```python\nprint(Solution().add(1, 2))\n```"
        ),
        {"fn_name": "add", "inputs": [[1, 2]], "outputs": [3]},
        P,
    ),
    (
        (
            "from typing import List\nclass Solution:\n"
            "    def f(self, x: List[int]) -> List[int]:\n        return x[::-1]"
        ),
        {"fn_name": "f", "inputs": [[[1, 2]]], "outputs": [[2, 1]]},
        P,
    ),
    ("def f(s): return {1: s}", {"fn_name": "f", "inputs": [["a"]], "outputs": [{"1": "a"}]}, P),
    ("def f(s): return True", {"fn_name": "f", "inputs": [["a"]], "outputs": [True]}, P),
    ("def f(s): return 1", {"fn_name": "f", "inputs": [["a"]], "outputs": ["1"]}, F),
    ("def f(s): return None", {"fn_name": "f", "inputs": [["a"]], "outputs": [[]]}, F),
    ("def f(s): return set([1])", {"fn_name": "f", "inputs": [["a"]], "outputs": [[1]]}, F),
    (ADD, "assert True", V),
    (ADD, "assert 1 == 1", V),
    (ADD, "assert (add(1, 2) == 4, 'three')", V),
    (f"[PYTHON]\n{ADD}[/PYTHON]", TESTS, P),
    (f"It is <code>\n{ADD}</code>", TESTS, P),
    (ADD, "pass", V),
    (ADD, "# assert add(1,2) == 3", V),
    (ADD, "'''assert add(1, 2) == 3'''", V),
    (ADD, "x = add(1, 2)\nx == 3", V),
    (ADD, ["add(1,2)==3"], V),
    (ADD, "def test():\n    return add(1, 2) == 3", V),
    (ADD, "lambda: add(1, 2) == 3", V),
    (ADD, "from candidate import add\nassert add(1, 2) == 3", P),
    (ADD, "import candidate\nassert candidate.add(1, 2) == 3", P),
    (ADD, "def check(f):\n    assert f(1, 2) == 3\ncheck(add)", P),
    (ADD, "for a, b, c in [(1, 2, 3)]:\n    assert add(a, b) == c", P),
    (ADD, "assert [add(x, 1) for x in range(3)] == [1, 2, 3]", P),
    (
        "def f(x): return sorted(x, key=lambda v: -v)",
        "import random\nrandom.seed(0)\nx = [random.random() for _ in range(1000)]\nassert f(x) == sorted(x)[::-1]",
        P,
    ),
    ("import math\ndef f(x): return math.sqrt(x)", "assert math.isclose(f(2), 1.41421356, rel_tol=1e-6)", P),
    ("import re\ndef f(x): return re.match('a+', x)", "assert f('aab').group() == 'aa' and f('b') is None", P),
    ("def f(): return iter([1, 2])", "assert list(f()) == [1, 2]", P),
    ("def f(d): d['x'] = 1; return d", "d = {}\nassert f(d) == {'x': 1} and d == {'x': 1}", P),
    ("x = 5\ndef f(): return x", "assert f() == 5 and x == 5", P),
    ("def f(n): return [[0] * n for _ in range(n)]", "assert f(300) == [[0] * 300 for _ in range(300)]", P),
    (
        (
            "class A:\n    def __init__(self, v): self.v = v\n"
            "    def __str__(self): return f'A({self.v})'\n"
            "    def __lt__(self, o): return self.v < o.v"
        ),
        "a, b = A(1), A(2)\nassert str(a) == 'A(1)' and a < b and sorted([b, a])[0].v == 1 and f'{a}' == 'A(1)'",
        P,
    ),
    (
        "class A:\n    def __enter__(self): return self\n    def __exit__(self, *a): self.done = True",
        "a = A()\nwith a: pass\nassert a.done",
        P,
    ),
    (
        "class A:\n    def __init__(self): self.items = []\n    def add(self, x): self.items.append(x); return self",
        "a = A().add(1).add(2)\nassert a.items == [1, 2] and hasattr(a, 'items') and not hasattr(a, 'nothing')",
        P,
    ),
    (
        "from enum import Enum\nclass C(Enum):\n    RED = 1\ndef f(): return C.RED",
        "assert f() == C.RED and C.RED.value == 1",
        P,
    ),
    (
        "from dataclasses import dataclass\n@dataclass\nclass D:\n    x: int\ndef f(): return D(1)",
        "assert f() == D(1) and f().x == 1 and repr(f()) == 'D(x=1)'",
        P,
    ),
]


def test_more_programs_and_golds(verifier: Verifier) -> None:
    verdicts = verifier([row[0] for row in MORE_FORMS], [row[1] for row in MORE_FORMS])
    assert [(*row, str(v)) for row, v in zip(MORE_FORMS, verdicts, strict=True) if row[2] is not v] == []


def test_programs_and_golds_as_data_sets_and_models_write_them(verifier: Verifier) -> None:
    verdicts = verifier([row[0] for row in FORMS], [row[1] for row in FORMS])
    assert [(*row, str(v)) for row, v in zip(FORMS, verdicts, strict=True) if row[2] is not v] == []


def test_functions_are_named_by_columns(verifier: Verifier) -> None:
    metadata = json.dumps({"func_name": "add"})
    gold = {"inputs": CALLS["inputs"], "outputs": CALLS["outputs"]}
    assert verifier([ADD, ADD.replace("+", "-")], [gold] * 2, fn_name=["add"] * 2) == [P, F]
    assert verifier([SOLUTION, ADD], [FUNCTIONAL] * 2, metadata=[metadata] * 2) == [P, P]
    assert verifier([SOLUTION.replace("+", "*")], [json.dumps(FUNCTIONAL)], starter_code=[SOLUTION[:40]]) == [F]
    tests = "def check(candidate):\n    assert candidate([1, 2]) == 3"
    assert verifier(["def sum(xs): return xs[0] + xs[1]"] * 2, [tests] * 2, entry_point=["sum", "min"]) == [P, F]


def test_numbers_within_a_tolerance() -> None:
    with load_verifier(
        "python_tests", allow_code_execution=True, float_tolerance=1e-6, time_limit=3.0, num_workers=1
    ) as verifier:
        golds = [{"inputs": [""], "outputs": ["0.3 a"]}] * 3 + [
            {"fn_name": "f", "inputs": [[]], "outputs": [[0.3]]}
        ] * 2
        programs = ["print(0.1 + 0.2, 'a')", "print(0.31, 'a')", "print(0.3, 'b')"]
        programs += ["def f(): return [0.1 + 0.2]", "def f(): return [0.31]"]
        assert verifier(programs, golds) == [P, F, F, P, F]


def test_values_cross_from_the_program_to_its_tests(verifier: Verifier) -> None:
    verdicts = verifier([row[0] for row in VALUES], [row[1] for row in VALUES])
    assert [row for row, verdict in zip(VALUES, verdicts, strict=True) if verdict is not P] == []


def test_no_program_passes_without_solving_the_problem(verifier: Verifier) -> None:
    tests = TESTS + "\nassert abs(add(1, 2) - 3) < 1e-9 and sorted([add(1, 2)]) == [3] and len([add(1, 2)]) == 1"
    for gold in (TESTS, tests, CALLS):
        verdicts = verifier(DECEITS, [gold] * len(DECEITS))
        assert [deceit for deceit, verdict in zip(DECEITS, verdicts, strict=True) if verdict is not F] == []


def test_the_program_sees_neither_what_is_expected_nor_what_the_user_may_read(
    verifier: Verifier, tmp_path: Path
) -> None:
    secret = tmp_path / "gold.json"
    secret.write_text("the expected output")
    os.chmod(tmp_path, 0o777)
    places = [str(secret), "/etc/shadow", "/etc/passwd", "/root/.bashrc", str(ROOT / "README.md"), "/var/log", "/home"]
    look = f"import os\nprint([p for p in {places!r} if os.path.exists(p)])"
    sockets = (
        "import socket\ntry:\n    socket.socket(socket.AF_UNIX).connect({!r})\n    print('reached')\n"
        "except OSError:\n    print('not')"
    )
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as abstract:
        path = str(tmp_path / "s")
        server.bind(path)
        server.listen()
        abstract.bind("\0paced_trl_test_" + str(os.getpid()))
        abstract.listen()
        programs = [look, sockets.format(path), sockets.format("\0paced_trl_test_" + str(os.getpid()))]
        assert verifier(programs, [[{"input": "", "output": out}] for out in ("[]", "not", "not")]) == [P, P, P]


def test_memory_is_bounded_however_it_is_taken() -> None:
    with load_verifier("python_tests", allow_code_execution=True, time_limit=5.0, num_workers=1) as verifier:
        gold = [{"input": "", "output": "hoarded"}]
        verdicts = verifier(HOARDS, [gold] * len(HOARDS))
        assert [hoard for hoard, verdict in zip(HOARDS, verdicts, strict=True) if verdict is not F] == []
