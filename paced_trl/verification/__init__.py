"""
Completion + solution -> verdict. No torch, and no numpy in the workers.

    verdict.py      the six verdicts
    verifier.py     a verifier by name, with its worker processes
    agreement.py    verdicts on completions that exist, compared with labels
    worker_pool.py  processes that can be killed

    check.py        what a check is: the part of a verifier that runs in a worker
    answers.py      where in a completion the answer is stated
    numbers.py      how one number may be written
    exact_check.py, choice_check.py, numeric_check.py, reasoning_gym_check.py, reward_function_check.py

    math_check.py   numbers exactly, other expressions by math-verify
    expressions.py  what math-verify is given to read
    math_values.py  whether two values have the same numbers
    math_limits.py  what nobody can read in reasonable time

    python_tests_check.py   a program against its tests
    python_gold.py          which tests there are
    sandbox.py              processes isolated by bubblewrap, with limits
    sandboxed_program.py    what runs inside, as a script
    remote_values.py        values and calls between a program and its tests
    system_calls.py         what the kernel refuses a program
"""

from .._lazy import lazy_names


__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
