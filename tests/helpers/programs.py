"""Programs for the sandbox: deceitful and greedy ones, and pairs of a program and its tests."""

from __future__ import annotations


def _parts(text: str, line: str) -> list[str]:
    return [part.strip("\n") for part in text.split(f"\n{line}\n")]


# Each would pass if the tests, what they expect, or what compares lay in the program's reach.
DECEITS = _parts(
    r"""
class E(int):
    __eq__ = lambda s, o: True
    __ne__ = lambda s, o: False
    __hash__ = None
def add(a, b): return E(0)
# ----
class E:
    __eq__ = lambda s, o: True
    __ne__ = lambda s, o: False
    __hash__ = None
def add(a, b): return E()
# ----
class E:
    def __sub__(s, o): return 0
    __rsub__ = __sub__
    def __lt__(s, o): return True
    __gt__ = __le__ = __ge__ = __lt__
    def __abs__(s): return 0
def add(a, b): return E()
# ----
import sys
def add(a, b):
    f = sys._getframe()
    while f:
        f.f_globals['add'] = None
        for n in list(f.f_globals): f.f_globals[n] = lambda *a: 3
        f = f.f_back
    return 0
# ----
import sys
def trace(frame, event, arg):
    frame.f_trace_opcodes = True
    return trace
sys.settrace(trace)
sys.setprofile(trace)
def add(a, b): return 0
# ----
import gc
def add(a, b):
    for o in gc.get_objects():
        if isinstance(o, dict) and 'source' in o: return 3
    return 0
# ----
import os
for d in range(3, 64):
    for w in (b'P', b'RP', b'{"answer": 3}\n'):
        try: os.write(d, w)
        except OSError: pass
def add(a, b): return 0
# ----
import sys, types
for n, m in list(sys.modules.items()):
    for k in ('same_value', '_same'):
        if hasattr(m, k): setattr(m, k, lambda *a: True)
def add(a, b): return 0
# ----
import builtins
builtins.AssertionError = ValueError
builtins.isinstance = lambda *a: True
builtins.len = lambda x: 3
def add(a, b): return 0
# ----
sorted = set = list = abs = lambda *a: 3
def add(a, b): return 0
# ----
import os, glob
def add(a, b):
    for p in [p for n in ('cmdline', 'environ', 'fd/*') for p in glob.glob('/proc/*/' + n)]:
        try:
            if b'assert' in open(p, 'rb').read(9999): return a + b
        except OSError: pass
    return 0
# ----
import os
def add(a, b): os.kill(-1, 9); return 0
# ----
import os
def add(a, b): raise SystemExit(0)
""",
    "# ----",
)
# Each prints "hoarded" if it gets more memory than it may have.
HOARDS = _parts(
    r"""
import os
for i in range(40):
    f = os.memfd_create('x')
    for _ in range(60): os.write(f, b'x' * 2**20)
print('hoarded')
# ----
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for i in range(40):
    n = libc.shmget(0, 60 * 2**20, 0o1600)
    if n < 0: raise SystemExit(1)
print('hoarded')
# ----
import os, time
done, tell = os.pipe()
for i in range(12):
    if not os.fork():
        x = bytearray(b'x') * (200 * 2**20)
        os.write(tell, b'1')
        time.sleep(20)
for i in range(12): os.read(done, 1)
print('hoarded')
# ----
import os
for i in range(40):
    with open(str(i), 'wb') as f:
        for _ in range(60): f.write(b'x' * 2**20)
print('hoarded')
# ----
import ctypes
if ctypes.CDLL(None).unshare(0x10000000): raise SystemExit(1)
print('hoarded')
""",
    "# ----",
)
# What a program may define, and how tests may use it, though they share no memory.
VALUES = [
    tuple(_parts(pair, "# tests"))
    for pair in _parts(
        r"""
def f(x): x.append(4); x[0][0] = 9
# tests
x = [[1], 2]
assert f(x) is None and x == [[9], 2, 4]
# ----
def f(x): return x
# tests
x = [1]
assert f(x) is x and f((1, 2)) == (1, 2) and f({1: (2, {3})}) == {1: (2, {3})}
# ----
def f(g, x): return [g(v) for v in x]
# tests
assert f(lambda v: v * 2, [1, 2]) == [2, 4] and f(len, ['a']) == [1]
# ----
def f(n):
    for i in range(n): yield i
# tests
assert list(f(3)) == [0, 1, 2] and next(f(1)) == 0
# ----
def f(x):
    if x < 0: raise ValueError('negative')
# tests
try:
    f(-1)
    assert False
except ValueError as e:
    assert str(e) == 'negative'
# ----
class E(Exception): pass
def f(): raise E('no')
# tests
try:
    f()
    assert False
except E: pass
# ----
class P:
    def __init__(self, x): self.x = x
    def __eq__(self, o): return self.x == o.x
    def __add__(self, o): return P(self.x + o.x)
# tests
p = P(1) + P(2)
assert p == P(3) and p.x == 3 and p != P(4) and isinstance(p, P)
# ----
class S:
    def __init__(self): self.a = []
    def push(self, x): self.a.append(x)
    def __len__(self): return len(self.a)
    def __getitem__(self, i): return self.a[i]
# tests
s = S()
s.push(3)
s.push(4)
assert len(s) == 2 and s[0] == 3 and s[-1] == 4
# ----
class N:
    def __init__(self, v, next=None): self.v, self.next = v, next
def last(n):
    while n.next: n = n.next
    return n.v
# tests
n = N(1, N(2))
assert last(n) == 2
n.next.next = N(5)
assert last(n) == 5
# ----
def depth(n): return 0 if n is None else 1 + max(depth(n.left), depth(n.right))
# tests
class T:
    def __init__(self, left=None, right=None): self.left, self.right = left, right
assert depth(T(T(), T(T()))) == 3
# ----
from collections import Counter, deque, namedtuple
def f(s): return Counter(s)
def g(): return deque([1, 2])
Q = namedtuple('Q', 'a b')
def h(): return Q(1, 2)
# tests
assert f('aab') == {'a': 2, 'b': 1} and list(g()) == [1, 2] and h() == (1, 2) and h().a == 1
# ----
import math
from fractions import Fraction
def f(): return Fraction(1, 3)
def g(): return math.inf
# tests
from fractions import Fraction
assert f() == Fraction(1, 3) and g() == float('inf')
assert math.isclose(0.1 + 0.2, 0.3)
# ----
async def f(x): return x + 1
# tests
import asyncio
assert f(1) == 2
# ----
def f(*a, k=0, **n): return (a, k, n)
# tests
assert f(1, *[2], k=3, z=4) == ((1, 2), 3, {'z': 4})
# ----
def f(): print('hello')
# tests
import io, contextlib
out = io.StringIO()
with contextlib.redirect_stdout(out): f()
assert out.getvalue() == 'hello\n'
# ----
def f(): return 10**400, -0.5, None, True, b'x', 1j, 'ü\ud800'
# tests
assert f() == (10**400, -0.5, None, True, b'x', 1j, 'ü\ud800')
# ----
def sum(x): return 7
# tests
assert sum([1]) == 7
# ----
from math import isclose
import numpy as np
def f(): return np.float64(0.5), np.array([1, 2])
# tests
a, b = f()
assert a == 0.5 and b.tolist() == [1, 2]
""",
        "# ----",
    )
]
# Run as a user other than root, inside namespaces of its own.
WITHOUT_NAMESPACES = r"""
import os, pathlib, time
from paced_trl.verification.verifier import load_verifier

ADD = "def add(a, b):\n    return a + b\n"
lingering = "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(98765)'])\n"
session = "import os\ndef add(a, b): return a + b if os.getsid(0) not in (%d, %d) else 0"
session %= (os.getsid(0), os.getpid())
programs = [ADD, "while True: pass", "x = bytearray(8 * 1024**3)", lingering + ADD, "import os; os._exit(0)", session]

def others():
    lines = [path.read_bytes() for path in pathlib.Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    return [line for line in lines if b"time.sleep(98765)" in line and b"-c" in line.split(b"\0")[1:2]
            and b"WITHOUT" not in line and b"load_verifier" not in line]

with load_verifier(
    "python_tests", allow_code_execution=True, isolation="process", time_limit=2.0, num_workers=1
) as verifier:
    verdicts = verifier(programs, ["assert add(1, 2) == 3\nassert add(-1, 1) == 0"] * len(programs))
    assert verdicts == ["passed", "failed", "failed", "passed", "failed", "passed"], verdicts
    end = time.monotonic() + 5
    while others():
        assert time.monotonic() < end, "a process of the candidate is still there"
        time.sleep(0.05)
"""
HELPER_BLOCK = """```python
import operator
def plus(a, b): return operator.add(a, b)
```
and
```python
def add(a, b): return plus(a, b)
```"""
