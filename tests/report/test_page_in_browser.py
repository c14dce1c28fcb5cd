"""The report's page in a real browser: it draws, sorts, searches, opens, by mouse and keyboard, and runs no text."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from helpers.browser import CHROMIUM, Browser
from helpers.report_runs import RECORD, make_evaluation, make_history, make_settings
from paced_trl.evaluation.comparison import BASE, ArmRun, Comparison
from paced_trl.evaluation.learning_curve import CurvePoint
from paced_trl.report import write_report
from paced_trl.report.theme import DARK_OF, PAPER, WEIGHT
from paced_trl.store.store import PassRateStore


pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")

PWN = "<img src=x onerror=window.pwned=1>"
HOSTILE = f"</script><script>window.pwned=1</script><!--<script>{PWN}\u2028\u202e\x00'\"`${{1}}&lt;"
ARM = f"paced{PWN}"
NUMERIC = {**RECORD, "verifier": {"name": "numeric", "options": {}}}


def add_completions(path: Path, num_passed: list[int], k: int = 4, *, prefix: str = "p", text: str = HOSTILE) -> None:
    rows = [
        {
            "problem_id": f"{prefix}{row}{PWN if prefix + str(row) == 'p3' else ''}",
            "generation_index": index,
            "completion": f"{text} The answer is {42 if index < passed else 7}.",
            "num_tokens": 3,
            "finish_reason": "stop",
            "verdict": "passed" if index < passed else "failed",
        }
        for row, passed in enumerate(num_passed)
        for index in range(k)
    ]
    PassRateStore(path, NUMERIC).append(rows)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison in which all that a user or a model names or writes is an attack; 120 training problems."""
    path = tmp_path_factory.mktemp("run") / "<u>run"
    path.mkdir()
    held_out = "test<img src=x>"
    comparison = Comparison(ARM, [held_out], ["kept"])
    for number, arm in enumerate((BASE, ARM)):
        evaluation = make_evaluation(held_out, 0.4 + 0.2 * number, model=arm, seed=number, num_problems=10)
        history = make_history(0) if arm == ARM else []
        for entry in history:
            entry["paced/effective_sample_size"] = 30.0
        if history:
            history[20] |= {"eval_paced/mean@4": 0.5, "eval_paced/num_problems": 40.0}
        evaluations = {held_out: evaluation, "kept": make_evaluation("kept", 0.8, model=arm, num_problems=10)}
        run = ArmRun(arm, 0, {}, evaluations, log_history=history)
        if arm == ARM:
            run.costs = {"seconds": 9.0, "tokens_generated": 1, "student_tokens": 80, "teacher_tokens": 80}
            run.curve = [CurvePoint(30, 4.0, 0, 40, 40, {held_out: 0.5, "kept": 0.7})]
        comparison.runs.append(run)
        directory = path / (BASE if arm == BASE else f"arms/{arm}-seed0/evaluation")
        add_completions(directory / f"{held_out}_completions", evaluation.num_passed, prefix=f"{held_out}-")
    comparison.save(path)
    settings = path / "arms" / f"{ARM}-seed0"
    make_settings(settings, weighting="beta", note=HOSTILE)
    (settings / "advice.json").write_text(json.dumps([{"step": 3, "subject": "x", "text": f"Beware. {HOSTILE}"}]))
    num_passed = [row % 5 for row in range(120)]
    add_completions(path / "pass_rates", num_passed)
    columns: dict[str, Any] = {
        "problem_id": [f"p{row}{PWN if row == 3 else ''}" for row in range(120)],
        "prompt": [f"Question {row} {HOSTILE}" for row in range(120)],
        "solution": ["42"] * 120,
        "num_passed": num_passed,
        "num_valid": [4] * 120,
    }
    pq.write_table(pa.table(columns), path / "pass_rates.parquet")
    write_report(path)
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def page(browser: Browser, directory: Path) -> Browser:
    """The page, loaded anew."""
    browser.errors.clear()
    browser.requests.clear()
    browser.open(directory / "report.html")
    return browser


def column(page: Browser, key: str) -> list[str]:
    """What a column of the table of problems shows."""
    number = ["problem", "set", "before", "after", "change", "weight"].index(key)
    rows = "document.querySelectorAll('[data-part=rows] tr:not(.detail)')"
    return page.evaluate(f"[...{rows}].map(row => row.children[{number}].textContent.trim())")


def see_all(page: Browser) -> None:
    """Open what can be opened."""
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    page.evaluate("document.querySelectorAll('[data-part=rows] button.start').forEach(each => each.click())")


def test_nothing_is_complained_of_requested_or_run(page: Browser) -> None:
    see_all(page)
    assert page.evaluate("typeof window.pwned") == "undefined"
    assert page.evaluate("document.querySelectorAll('figure svg.whole text').length") > 100
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert page.evaluate("document.querySelectorAll('u, main script').length") == 0
    assert page.errors == []
    assert not [url for url in page.requests if not url.startswith(("data:", "file:"))]
    assert len([url for url in page.requests if url.startswith("file:")]) == 1
    # The attack is there, to read.
    body = page.evaluate("document.body.innerText")
    assert "</script><script>window.pwned=1</script><!--<script>" in body and PWN in body
    assert "U+202E" in body and "\u202e" not in body


def test_a_script_that_is_let_in_does_not_run(page: Browser) -> None:
    code = """(() => {
        const script = document.createElement("script");
        script.append("window.pwned = 1");
        document.body.append(script);
    })()"""
    page.evaluate(code)
    assert page.evaluate("typeof window.pwned") == "undefined"
    assert page.errors  # the policy says so


def test_clicks_on_headings_sort(page: Browser) -> None:
    # What changed most comes first; where nothing was measured again, what weighs most.
    assert page.evaluate("document.querySelector('[aria-sort=descending]').dataset.key") == "change"
    page.click("th[data-key=weight] button")
    weights = [float(cell) for cell in column(page, "weight")]
    assert weights == sorted(weights, reverse=True) and weights[0] > 1.5
    page.click("th[data-key=before] button")
    before = column(page, "before")
    assert len(before) == 50 and before[0] == "4 of 4" and before == sorted(before, reverse=True)
    page.click("th[data-key=before] button")
    assert set(column(page, "before")[:24]) == {"0 of 4"}
    assert page.evaluate("document.querySelector('th[data-key=before]').ariaSort") == "ascending"
    page.click("th[data-key=change] button")
    changes = [cell for cell in column(page, "change") if cell != "–"]
    values = [float(cell.replace("−", "-")) for cell in changes]
    assert len(values) == 20 and values == sorted(values, reverse=True)
    assert column(page, "change")[:20] == changes  # what has none comes last
    page.click("th[data-key=change] button")
    assert [float(cell.replace("−", "-")) for cell in column(page, "change")[:20]] == sorted(values)


def test_search_and_filters(page: Browser) -> None:
    assert page.evaluate("document.querySelector('[data-part=count]').textContent") == "1 to 50 of 140 problems"
    page.click("[data-part=search]")
    page.write("question 117 ")
    page.wait_for("document.querySelector('[data-part=count]').textContent === '1 problem (of 140)'")
    (problem,) = column(page, "problem")
    assert problem.startswith("Question 117 </script>")
    page.evaluate("document.querySelector('[data-part=search]').select()")
    page.write("window.PWNED=1")  # of all prompts and completions
    page.wait_for("document.querySelector('[data-part=count]').textContent === '1 to 50 of 130 problems (of 140)'")
    choose = """((name, value) => {
        const choice = document.querySelector(`[data-part=${name}]`);
        choice.value = value;
        choice.dispatchEvent(new Event("change"));
    })"""
    page.evaluate(f"{choose}('level', 'mastered')")
    page.evaluate(f"{choose}('set', '0')")
    assert page.evaluate("document.querySelector('[data-part=count]').textContent") == "24 problems (of 140)"
    page.evaluate(f"{choose}('verdict', 'failed')")
    assert column(page, "problem") == []


def test_pages_turn(page: Browser) -> None:
    first = column(page, "problem")
    page.click("[data-part=next]")
    second = column(page, "problem")
    page.click("[data-part=next]")
    assert [len(first), len(second), len(column(page, "problem"))] == [50, 50, 40]
    assert not set(first) & set(second)
    assert page.evaluate("document.querySelector('[data-part=next]').disabled")


def test_a_problem_shows_both_sides_with_what_was_read(page: Browser) -> None:
    page.click("[data-part=rows] button.start")
    sides = page.evaluate("[...document.querySelectorAll('.detail .side')].map(side => side.innerText)")
    assert sides[0].startswith("base, before training") and sides[1].startswith(ARM)
    assert "read as 42" in sides[1] and "passed" in sides[1]
    page.click("[data-part=rows] button.start")
    assert page.evaluate("document.querySelectorAll('.detail').length") == 0


def test_by_keyboard_alone(page: Browser) -> None:
    page.evaluate("document.querySelector('th[data-key=before] button').focus()")
    page.press("Enter", 13)
    assert page.evaluate("document.querySelector('th[data-key=before]').ariaSort") == "descending"
    page.evaluate("document.querySelector('[data-part=rows] button.start').focus()")
    page.press("ArrowDown", 40)
    page.press("Enter", 13)
    opened = "[...document.querySelectorAll('button.start')].map(each => each.ariaExpanded).slice(0, 3)"
    assert page.evaluate(opened) == ["false", "true", "false"]
    # From the search box the tab key goes on through the filters to the headings.
    page.evaluate("document.querySelector('[data-part=search]').focus()")
    reached = []
    for _ in range(8):
        page.press("Tab", 9)
        reached.append(page.evaluate("document.activeElement.dataset.part ?? document.activeElement.textContent"))
    assert reached[:4] == ["set", "arm", "level", "verdict"] and reached[5:7] == ["problem", "set"]
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_numbers_of_a_figure_can_be_read(page: Browser) -> None:
    figure = "document.querySelector('[data-figure=before_after]')"
    assert page.evaluate(f"{figure}.querySelector('tbody').checkVisibility()") is False
    page.click("[data-figure=before_after] summary")
    assert page.evaluate(f"{figure}.querySelector('tbody').checkVisibility()") is True
    table = page.evaluate(
        f"[...{figure}.querySelectorAll('tbody tr')].map(row => [row.cells[1].textContent, row.cells[3].textContent])"
    )
    shares = [float(share) for arm, share in table if arm == ARM]
    assert len(shares) == 5 and sum(shares) == pytest.approx(1, rel=1e-3)


def test_one_held_out_problem_is_shown_before_and_after(page: Browser) -> None:
    sides = page.evaluate("[...document.querySelectorAll('#overview .side')].map(side => side.innerText)")
    assert len(sides) == 2 and sides[0].startswith("base, before training") and sides[1].startswith(ARM)
    assert "failed, 3 tokens, read as 7" in sides[0] and "passed, 3 tokens, read as 42" in sides[1]
    headline = page.evaluate("document.querySelector('.headline').innerText")
    assert f"→ {ARM}" in headline.replace("\n", " ") and "mean@4 on 10 problems" in headline


@pytest.mark.parametrize("dark", [False, True])
def test_colours_follow_the_system(browser: Browser, directory: Path, dark: bool, tmp_path: Path) -> None:
    browser.open(directory / "report.html", dark=dark)
    browser.evaluate("document.querySelector('[data-figure=pass_rates]').scrollIntoView({behavior: 'instant'})")
    browser.screenshot(tmp_path / "page.png")
    image = np.asarray(Image.open(io.BytesIO((tmp_path / "page.png").read_bytes())).convert("RGB"))
    for light, share in ((PAPER, 0.3), (WEIGHT, 0.001)):
        color = DARK_OF[light] if dark else light
        wanted = np.array([int(color[start : start + 2], 16) for start in (1, 3, 5)])
        assert (image == wanted).all(axis=2).mean() > share, color


@pytest.mark.parametrize("dark", [False, True])
def test_text_of_figures_stands_out_from_the_paper(browser: Browser, directory: Path, dark: bool) -> None:
    browser.open(directory / "report.html", dark=dark)
    colors = browser.evaluate(
        "[...new Set([...document.querySelectorAll('.whole text')].map(each => getComputedStyle(each).fill))]"
    )
    paper = browser.evaluate("getComputedStyle(document.querySelector('section')).backgroundColor")

    def luminance(color: str) -> float:
        channels = [int(value) / 255 for value in color[4:-1].split(",")]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    assert len(colors) >= 3
    for color in colors:
        low, high = sorted([luminance(color), luminance(paper)])
        assert (high + 0.05) / (low + 0.05) >= 4.4, color  # WCAG AA asks for 4.5


def test_nothing_is_wider_than_a_narrow_window(browser: Browser, directory: Path) -> None:
    browser.open(directory / "report.html", width=400)
    see_all(browser)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 400
    boxes = browser.evaluate(
        "[...document.querySelectorAll('.parts svg')].map(each => each.getBoundingClientRect())"
        ".map(box => [box.right, box.width, box.height])"
    )
    assert len(boxes) > 10
    for right, width, height in boxes:
        assert right <= 400 and width > 60 and height > 15
    sizes = browser.evaluate("[...document.querySelectorAll('.parts svg')].map(each => each.getScreenCTM().a * 9)")
    assert min(sizes) > 7 and max(sizes) < 13  # pixels of the smallest letters


def test_the_page_reads_without_scripts(browser: Browser, directory: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(directory / "report.html")
        document = browser.call("DOM.getDocument")["root"]["nodeId"]
        found = {
            selector: len(browser.call("DOM.querySelectorAll", nodeId=document, selector=selector)["nodeIds"])
            for selector in ("figure svg.whole", "noscript details.problem", "#browser[hidden]")
        }
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert found == {"figure svg.whole": 8, "noscript details.problem": 30, "#browser[hidden]": 1}


def test_five_thousand_problems_load_quickly(
    browser: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    num_passed = rng.integers(0, 5, 5200)
    add_completions(tmp_path / "pass_rates", num_passed.tolist(), text="Let me think step by step. " * 12)
    columns: dict[str, Any] = {
        "problem_id": [f"p{row}{PWN if row == 3 else ''}" for row in range(5200)],
        "prompt": [f"Question {row}: how many are there in all, if each has {row % 17}?" for row in range(5200)],
        "num_passed": num_passed,
        "num_valid": [4] * 5200,
    }
    pq.write_table(pa.table(columns), tmp_path / "pass_rates.parquet")
    path = write_report(tmp_path)
    size = path.stat().st_size
    seconds = min(browser.open(path) for _ in range(3))
    searching = browser.evaluate(
        "(() => { const start = performance.now(); const s = document.querySelector('[data-part=search]');"
        "s.value = 'question 51'; document.querySelector('[data-part=set]').dispatchEvent(new Event('change'));"
        "return performance.now() - start })()"
    )
    with capsys.disabled():
        print(f"\n5,000 problems: {size / 1e6:.1f} MB, loaded in {seconds:.2f} s, first search {searching:.0f} ms")
    assert size < 5_000_000
    assert browser.evaluate("document.querySelector('[data-part=count]').textContent").endswith("(of 5,000)")
    note = browser.evaluate("document.querySelector('#browser').textContent")
    assert "Of 5,200 training problems the 5,000 of the greatest weight are listed." in note
