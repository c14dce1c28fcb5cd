"""Answers as people and models write them, one per line: what passes (+) and what does not (-), by gold (==)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers.verification import PASSED
from paced_trl.verification.verifier import load_verifier


# Hedges, negations, answers that the next words take back, remarks, hyphens in prose, signs in words, thoughts, bold
# answers with a unit behind, numbers in thousands and millions.
NUMBERS = r"""
== 42
- The answer is probably 42, but it could be 43.
- The possible answers are 42, 43, and 44.
- The answer is more than 42.
- The answer is less than 42.
- The answer is greater than 42.
- The answer is 42? No.
- The answer is 42. No.
- The answer is 42? No, that is wrong.
- The answer is 42. Wait, no.
- The answer is 42. That's wrong.
- The answer is 42. Actually, that's not right.
- Is the answer 42? No.
- Is it 42? No.
- The answer is 42. Wait, it is 43.
- The answer is 42. No, 43.
- The answer is 42, no, 43.
- The answer is 42... no wait, 43
- \boxed{42}? No.
- \boxed{42} is wrong.
- \boxed{42} is incorrect.
- \boxed{42} is not the answer.
- The answer is no longer 42.
- The answer won't be 42.
- The answer is different from 42.
- 42 isn't right.
- 42 cannot be the answer.
- 42 can't be right.
- I doubt it is 42.
- I don't think it's 42.
- I do not think the answer is 42.
- I don't believe the answer is 42
- No one knows whether the answer is 42.
- If the answer were 42, then
- The wrong answer is 42.
- The incorrect answer is 42.
- A wrong answer is 42
- One might think the answer is 42, but it is 43.
- You may think the answer is 42 but it's 43
+ Total: 42 (21 + 21)
+ 42 (= 6 * 7)
+ 42 (6 times 7)
+ The total is 42 [6*7].
+ So 42 (40 + 2) apples
+ Total = 42 (21+21)
+ 42 apples (in 3 boxes)
+ He has 42 apples left (out of 100).
+ It took 42 minutes (0.7 hours).
+ __42__
- \boxed{|42|}
- \boxed{42_5}
- 42 and a half
- 答案不是42
- 答案是42吗？不是。
- La réponse n'est pas 42.
- Die Antwort ist nicht 42.
- La respuesta no es 42.
- A resposta não é 42.
- 答案是42还是43？
- La respuesta es 42 o 43.
+ analysis43assistantfinal42
- <unused94>thought⏎42
+ The answer is 42, not 43.
+ The answer is 42 (21 + 21).
+ We get 42 (not 43).
+ 42 (forty-two)
+ Total (6 * 7): 42
+ 6 x 7 = 42
+ So: 42
+ 42!
+ \boxed{42 \, \text{units}}
+ No. 42
+ 42-year-old
- The answer is 42 ± 1
- \boxed{41}\boxed{42}
+ a) 42
+ 1. 42
+ There is no doubt the answer is 42.
+ {"answer": 42, "unit": "cm"}
+ {"final_answer": "42"}
+ 41? No, 42!
+ The answer is 41.⏎⏎Wait, let me recheck.⏎⏎The answer is 42.
+ Is 42 prime? No. So the answer is 42.
+ There are no more than 42.
+ If it is Monday, then the answer is 42.
== 18
+ 18 eggs - that is 3 * 6
+ 18.⏎⏎(That is 9 times 2.)
+ Total: 18 (9 + 9)
+ It is 18: 9 + 9.
+ 18, i.e. 9 + 9
+ 18 because of 9 and 9
+ 18 = 9 + 9
+ 18 = 2 * 9
+ The answer is 9+9, which is 18.
+ The answer is 9 + 9, or 18.
+ 9*2 is 18
- The answer is 1 8
+ Answer - 18
+ => 18
+ -> 18
== 0.5
+ 0.5 or 50%
+ \boxed{\frac{1}{2} \text{ or } 0.5}
+ 0.5 (or 1/2)
+ 1/2 (50%)
== -3
+ negative 3
+ minus 3
- -(-3)
+ The temperature is -3°C.
+ The answer is -3, not 3.
== 15
+ The answer is **15** dollars.
+ The answer is *15* dollars.
+ The answer is __15__ dollars.
+ The answer is ***15*** dollars a week.
+ The answer is **$15** per week.
+ The answer is **15**%
+ **Answer:** **15** dollars
+ **Answer: 15** dollars
+ **The answer is 15** dollars
+ The correct answer is **15 (fifteen)** dollars.
+ She pays **$15** for 3 shirts.
+ ✅ **15**
+ **15** 🎉
+ > **15**
+ **1.** She has 5 eggs.⏎**2.** She has 15.
+ **Day 3**: 15
+ The answer is 15 - as computed above.
+ The area is $15\text{ cm}^2$.
+ The area is 15 $\text{cm}^2$.
+ Janet makes \(\$15\) a day.
- It is not **15**.
- She has **14** eggs of 15.
+ She has **5** + 10 = 15.
- **15** or 16
- 16 or **15**
- It is **15**, or maybe 16.
- **15**/16
- -**15**
- **15** + 5
- **15** + 5 = 20
- **15** is wrong, 16
- **15**? 16.
- **15**, no, 16
- **15** or **16**
- **15** and **16** eggs
- $15\text{ cm}^2 + 1$
- The answer is **3** or **15**.
- The answer is **14** dollars, **15** cents
- The answer is not **15** dollars
- The answer is **15** ** 2
- The answer is **15**2
== 1,250
+ The angle is $1,250^\circ$.
+ The area is $1,250\text{ cm}^2$.
+ Janet makes \(\$1,250\) a day.
== 2000000
+ The answer is 2 million.
+ $2 million
+ The answer is **2 Million** dollars.
+ \boxed{2\text{ million}}
+ \[2\,\text{million}\]
+ 2,000 thousand people
+ 2 million, or 2,000,000 dollars
+ 20 hundred thousand
- 2
- 2 thousand
- 2 millionths
- 2 million or 3 million
- 2 million 500 thousand
== $4 million
+ 4
+ 4000000
+ 4,000 thousand
- 4 thousand
- 4%
== 4
+ There are $4 million left.
+ It takes 4 hundred-year cycles
- 5 million
== 24
+ 2 dozen eggs
- He has 2 dozen and 3 eggs
"""
# Bases with letters, products of sets, sets of numbers, lists and unions, styles, negated formulas.
EXPRESSIONS = r"""
== x^2+1
+ So it is **$x^2+1$**, and we used $3$ steps.
- So it is not **$x^2+1$**
- The answer is $x^2+1$? No.
- The answer is $x^2+1$. Wait, no.
- \boxed{x^2+1} is wrong.
+ \boxed{x**2+1}
- I don't think it's $x^2+1$.
+ The answer is $x^2+1$, not $x^2-1$.
+ The answer is x^2+1 (not x^2-1).
== \frac{\pi}{4}
+ \boxed{\frac{\pi}{4} \approx 0.785}
+ pi/4
== 2\sqrt{3}
+ 2 sqrt(3)
+ The answer is 2√3, not 3√2.
+ \boxed{2\sqrt{3}\approx 3.46}
== (3, -2)
+ The point is (3, -2).
== 1, 2
+ 1 and 2
+ x = 1 or x = 2
+ The solutions are 1 and 2.
+ \boxed{x=1,2}
== n \geq 3
+ all n ≥ 3
== 7
- \boxed{\sum_{i=1}^{7} 1}
- \boxed{-(-7)}
- \boxed{\lfloor 7.5 \rfloor}
- \boxed{\max(3,7)}
- 3 ⊕ 4
- \boxed{\binom{7}{1}}
- \boxed{\gcd(7,14)}
+ \boxed{7^1}
== 1024
+ \boxed{2^{10}}
+ The answer is $2^{10}$.
- \boxed{2^9 + 2^9}
== \frac{1}{9}
+ \boxed{3^{-2}}
== -8
+ \boxed{(-2)^3}
- \boxed{2^3}
== 7
+ \boxed{\boldsymbol{7}}
+ \boxed{\color{red}7}
+ \boxed{\underline{7}}
== 101_2
+ \boxed{101_{\text{two}}}
== 1A_{16}
+ \boxed{\text{1A}_{16}}
== 2B7_{12}
+ \boxed{2B7_{12}}
== \text{A5}_{16}
+ \boxed{A5_{16}}
== (0,1) \times (2,3)
+ \boxed{(0,1)\times(2,3)}
== [0,1] \times [0,2]
+ \boxed{[0,1]\times[0,2]}
== \mathbb{Z}_{+}
+ \boxed{\mathbb{Z}_{+}}
+ \boxed{\mathbb{Z}_+}
+ \boxed{\mathbb{Z}^+}
+ \boxed{\mathbb Z_+}
== \mathbb{R}^+
+ \boxed{\mathbb{R}^{+}}
+ \boxed{(0,\infty)}
== \mathbb{N}
+ \boxed{\mathbb N}
== \mathbb{R}
+ \boxed{\mathbb R}
== \mathbb{R} \setminus \{0\}
+ \boxed{\mathbb{R} \backslash \{0\}}
== x
+ \boxed{x}
== n
+ \boxed{n}
== k
+ \boxed{k}
+ \boxed{$k$}
== x < -1 \text{ or } x > 1
+ \boxed{(-\infty,-1)\cup(1,\infty)}
== x=1 \text{ or } x=2
+ \boxed{x=1,2}
== i
+ \boxed{i}
== e
+ \boxed{e}
== a \leq -1 \text{ or } a \geq 2
+ \boxed{(-\infty,-1]\cup[2,\infty)}
== \{(1,2)\}
+ \boxed{(1,2)}
== |x|
+ \boxed{|x|}
== \frac{a}{b}
+ \boxed{\frac ab}
== 10^{-3} \text{ M}
+ \boxed{0.001}
+ \boxed{10^{-3}}
== x \equiv 2 \pmod{5}
+ \boxed{x \equiv 2 \mod 5}
+ \boxed{x\equiv2 (\bmod 5)}
== \{ x \mid x \neq 2 \}
+ \boxed{x \neq 2}
- \boxed{2}
== \{x | x < -3 \text{ or } x > 3\}
+ \boxed{(-\infty,-3)\cup(3,\infty)}
- \boxed{3}
== (1011)_2
+ \boxed{1011_2}
- \boxed{1011}
== \mathbb{N}^*
+ \boxed{\mathbb{Z}^+}
- \boxed{\mathbb{N}_0}
== \mathbb{R}^2
+ \boxed{\mathbb{R}^2}
- \boxed{\mathbb{R}^3}
== \{1,2\} \times \{3,4\}
+ \boxed{\{1,2\}\times\{3,4\}}
- \boxed{\{1,2\}\times\{3,5\}}
"""
CHOICES = r"""
== B
+ B ✅
+ ✅ **B**
+ **Option B**
- The answer is B? No.
- The answer is B. Wait, no.
- The answer is B. No, C.
- The answer is B. Wait, it is C.
- The answer is B... no, C
+ The answer is C? No, B.
+ Not C but B.
+ The answer is not C but B.
+ B, not C.
- I do not think the answer is B.
- The wrong answer is B.
- The incorrect option is B.
- One might think the answer is B, but it is C.
- The answer is B, but it could be C
+ B - Paris
+ B – Paris
+ Option B
+ Choice B
+ choice b
+ Answer B
+ I'd say B.
+ Answer - B
+ Answer → B
+ Ans: B
+ Ans. B
+ => B
+ → B
+ \boxed{\text{Option B}}
+ \boxed{ B }
+ {"answer": "B"}
+ ```json⏎{"answer": "B"}⏎```
+ {"answer":"B"}
+ A) is wrong.⏎C) is wrong.⏎So B.
+ The capital is Paris, so B
+ which corresponds to option B.
+ This matches option B.
+ Only B works.
+ The best answer would be B.
+ The answer should be B.
+ The answer must be B.
+ La réponse est B.
+ Die Antwort ist B.
+ La respuesta correcta es B.
+ A resposta é B.
+ La risposta è B.
+ Ответ: B
+ 故选：B
+ 选项B正确
+ 正解はBです。
+ 答えはB
+ 정답은 B입니다.
+ 정답: B
- The answer is B+
"""
WORDS = r"""
== yes
+ No? Yes.
+ Is it even? Yes.
+ {"answer": "yes"}
- I can't say yes.
+ Yes, no doubt.
+ The answer is no. Wait, it is yes.
- The answer is yes. Wait, no.
== no
+ Definitely no.
+ Is 3 even? No.
"""


def rows(table: str) -> Iterator[tuple[str, str, bool]]:
    gold = ""
    for line in table.strip().splitlines():
        sign, _, text = line.partition(" ")
        if sign == "==":
            gold = text
        else:
            yield gold, text.replace("⏎", "\n"), sign == "+"


@pytest.mark.parametrize(
    ("name", "table", "options"),
    [
        ("numeric", NUMBERS, {}),
        ("math", NUMBERS + EXPRESSIONS, {"num_workers": 2}),
        ("choice", CHOICES, {}),
        ("choice", WORDS, {"choices": ["yes", "no"]}),
    ],
)
def test_answers_as_they_are_written(name: str, table: str, options: dict[str, object]) -> None:
    if name == "math":
        pytest.importorskip("math_verify")
    expected = list(rows(table))
    golds, answers = [gold for gold, _, _ in expected], [answer for _, answer, _ in expected]
    with load_verifier(name, **options) as verifier:
        passed = [verdict is PASSED for verdict in verifier(answers, golds)]
        assert set(verifier.check_solutions(golds)) == {PASSED}
    assert [row for row, has_passed in zip(expected, passed, strict=True) if row[2] != has_passed] == []


def test_golds_of_which_a_part_only_is_read_are_not_used() -> None:
    pytest.importorskip("math_verify")
    golds = [r"\{(x,y) \mid x+y=1\}", r"n \text{ odd}", r"\text{all primes } p", "a=b=c", "B", "two x"]
    with load_verifier("math", num_workers=2) as verifier:
        assert PASSED not in verifier.check_solutions(golds)
