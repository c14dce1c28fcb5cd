"""
Draw README's first picture from the saved comparison: accuracy against tokens, the estimation of pass rates included.

    python recipes/demo/draw_tokens.py        # results/results.json -> results/tokens.png

Arms that use pass rates begin where these have been paid for (163,731 tokens of the student, README.md). The bands are
95 % intervals over the 400 problems of the test set.
"""

import json
from pathlib import Path

from paced_trl.report.curves import HeldOutPoint, wilson
from paced_trl.report.draw_training import draw_held_out_curves
from paced_trl.report.theme import INK, MUTED, Drawing, arm_colors, as_png


RESULTS = Path(__file__).resolve().parent / "results"
ESTIMATION_TOKENS = 163_731
NUM_PROBLEMS = 400
# Each arm with its name, and where that stands beside its curve's end, in points.
ARMS = {"uniform": ("uniform", -12), "hard_filter": ("hard filter", -13), "paced_sampling": ("PACED", 6)}


def draw() -> Drawing:
    """Draw the three curves with the report's own function, and name them where they end."""
    results = json.loads((RESULTS / "results.json").read_text())
    curves: dict[str, list[HeldOutPoint]] = {}
    for arm in ARMS:
        paid = 0 if arm == "uniform" else ESTIMATION_TOKENS
        points = [(point["tokens"] + paid, point["accuracy"]["test"]) for point in results[arm]["curve"]]
        curves[arm] = [HeldOutPoint(at, mean, *wilson(mean, NUM_PROBLEMS)) for at, mean in points]
    drawing = draw_held_out_curves(
        {"test": curves}, list(ARMS), "tokens generated and run through student and teacher"
    )
    (axes,) = drawing.figure.axes
    drawing.figure.legends[0].remove()
    drawing.figure.set_size_inches(7.6, 3.7)
    colors = arm_colors(ARMS)
    for arm, (name, up) in ARMS.items():
        end = curves[arm][-1]
        axes.annotate(
            name, end[:2], (8, up), textcoords="offset points", color=colors[arm], fontsize=12, fontweight="bold"
        )
    found = results["paced_sampling"]["sets"]["test"]["minus_uniform"]
    axes.set_title("Held-out problems solved, by tokens spent", fontsize=12)
    axes.text(
        0.985,
        0.05,
        f"PACED − uniform at the end: {found['estimate']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]\n"
        "demo, 5 seeds; bands: 95 % over problems",
        transform=axes.transAxes,
        ha="right",
        color=INK,
        fontsize=9,
    )
    axes.axvline(ESTIMATION_TOKENS, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.text(ESTIMATION_TOKENS - 6e3, 0.83, "pass rates: 164k tokens", ha="right", color=MUTED, fontsize=9)
    axes.set(ylabel="share solved", xlim=(-15e3, 775e3))
    return drawing


if __name__ == "__main__":
    (RESULTS / "tokens.png").write_bytes(as_png(draw))
