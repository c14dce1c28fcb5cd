"""
Put the comparisons of the three mixes together: accuracy, difference from p (1 - p), and what an arm's choice costs.

    python recipes/difficulty/summary.py      # runs/difficulty/MIX -> results/results.json, table.md, regret.png

The regret of an arm on a mix is the accuracy of the best static arm there minus its own. It is paired, with a 95 %
interval over problems and seeds; that the best arm is chosen by the same numbers makes it a little high. Static arms
are those that measure pass rates once; `random_weights` is a control and never the best.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from paced_trl.evaluation import Comparison
from paced_trl.report.theme import ARMS as COLORS
from paced_trl.report.theme import MUTED, Drawing, add_legend, as_png, panels


HERE = Path(__file__).resolve().parent
MIXES = ("hard", "balanced", "easy")
CONTROL = "paced_sampling"
NAMES = {
    "uniform": "uniform",
    "paced_sampling": "p(1-p), drawn",
    "paced": "p(1-p), in the loss",
    "harder": "p(1-p)^2",
    "squared": "(p(1-p))^2",
    "sqrt": "p(1-p), square root",
    "fitted": "p^a(1-p)^b, fitted",
    "posterior": "posterior, gated",
    "posterior_open": "posterior, open",
    "random_weights": "p(1-p) on other problems",
    "refreshed": "p(1-p), measured again",
    "harder_refreshed": "p(1-p)^2, measured again",
    "squared_refreshed": "(p(1-p))^2, measured again",
    "band_.2-.8_refreshed": "band .2-.8, measured again",
}


def summarize(comparisons: dict[str, Comparison]) -> dict[str, Any]:
    """Return the numbers by mix and arm, and each arm's largest regret."""
    mixes: dict[str, Any] = {}
    for mix, comparison in comparisons.items():
        arms = [arm for arm in comparison.arms() if arm != "base"]
        means = {arm: comparison.mean(arm, "test") for arm in arms}
        static = [arm for arm in arms if arm != "random_weights" and not arm.endswith("refreshed")]
        best = max(static, key=lambda arm: means[arm].estimate)
        rows = {}
        for arm in arms:
            row: dict[str, Any] = {"seeds": len(comparison.runs_of(arm)), "accuracy": asdict(means[arm])}
            row["retention_minus_base"] = asdict(comparison.difference(arm, "base", "reversal"))
            row["is_static"] = arm in static
            if arm != CONTROL:
                row["minus_control"] = asdict(comparison.difference(arm, CONTROL, "test"))
            found = comparison.difference(best, arm, "test") if arm != best else None
            row["regret"] = asdict(found) if found else {"estimate": 0.0, "low": 0.0, "high": 0.0}
            rows[arm] = row
        mixes[mix] = {"base": asdict(comparison.mean("base", "test")), "best": best, "arms": rows}
    everywhere = [arm for arm in NAMES | _bands(mixes) if all(arm in mix["arms"] for mix in mixes.values())]
    largest = {arm: max((mixes[mix]["arms"][arm]["regret"]["estimate"], mix) for mix in mixes) for arm in everywhere}
    return {"control": CONTROL, "mixes": mixes, "largest_regret": dict(sorted(largest.items(), key=lambda x: x[1]))}


def _bands(mixes: dict[str, Any]) -> dict[str, str]:
    arms = {arm for mix in mixes.values() for arm in mix["arms"]}
    return {arm: arm.replace("_", " ") for arm in sorted(arms) if arm.startswith("band")} | NAMES


def _number(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".", 1)


def table(summary: dict[str, Any]) -> str:
    """Return the table of README.md: arms by their largest regret, those not trained on every mix last."""
    mixes, names = summary["mixes"], _bands(summary["mixes"])
    order = [*summary["largest_regret"]]
    order += [arm for arm in names if arm not in order and any(arm in mix["arms"] for mix in mixes.values())]
    lines = [["arm", *(f"{name} (base {_number(mix['base']['estimate'])})" for name, mix in mixes.items())]]
    lines[0].append("largest regret")
    lines.append(["---"] * len(lines[0]))
    for arm in order:
        cells = [names[arm]]
        for mix in mixes.values():
            row = mix["arms"].get(arm)
            cell = "" if row is None else _number(row["accuracy"]["estimate"])
            if row is not None and "minus_control" in row:
                found = row["minus_control"]
                cell += " {:+.3f} [{:+.3f}, {:+.3f}]".format(*(found[key] for key in ("estimate", "low", "high")))
            cells.append(cell)
        regret = summary["largest_regret"].get(arm)
        lines.append([*cells, "" if regret is None else f"{_number(max(0.0, regret[0]))} ({regret[1]})"])
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def draw(summary: dict[str, Any]) -> Drawing:
    """Draw each arm's regret on each mix with its interval, arms by their largest."""
    names, arms = _bands(summary["mixes"]), list(summary["largest_regret"])
    figure, (axes,) = panels(1, most_columns=1, height=0.9 + 0.34 * len(arms))
    figure.set_size_inches(7.6, figure.get_figheight())
    lines, rows = {}, []
    for number, (name, mix) in enumerate(summary["mixes"].items()):
        color = COLORS[number]
        for row, arm in enumerate(arms):
            found = mix["arms"][arm]["regret"]
            at = row + 0.22 * (number - 1)
            axes.hlines(at, found["low"], found["high"], color=color, linewidth=2)
            (lines[f"{name} mix"],) = axes.plot(found["estimate"], at, "o", color=color, markersize=5)
            rows.append((arm, name, found["estimate"], found["low"], found["high"]))
    axes.axvline(0.0, color=MUTED, linewidth=1)
    axes.set_yticks(range(len(arms)), [names[arm] for arm in arms])
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("accuracy below that of the best static weights on the same mix")
    add_legend(figure, lines)
    return Drawing(figure, ("arm", "mix", "regret", "low", "high"), rows)


def main() -> None:
    """Read the comparisons, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/difficulty"), help="directory of the comparisons")
    parser.add_argument("--output_dir", type=Path, default=HERE / "results", help="where the results go")
    args = parser.parse_args()
    summary = summarize({mix: Comparison.load(args.runs / mix) for mix in MIXES})
    args.output_dir.mkdir(exist_ok=True)
    (args.output_dir / "results.json").write_text(json.dumps(summary, indent=1) + "\n")
    (args.output_dir / "table.md").write_text(table(summary))
    (args.output_dir / "regret.png").write_bytes(as_png(lambda: draw(summary)))
    print(table(summary))


if __name__ == "__main__":
    main()
