"""
A run directory -> one page, figures, and a summary for the terminal. Loads no torch.

    contents.py        what a run directory holds or names
    curves.py          what training logged, as curves over the steps
    findings.py        what a run says, in sentences
    outcome.py         whether training helped, in a word
    figures.py         which figures there are, with captions
    draw_results.py    figures of what was measured
    draw_training.py   figures over the steps of training
    theme.py           how figures look; PNG and SVG from one drawing
    problem_table.py   the rows of the table of problems
    problem_text.py    prompts and completions, safe to read
    settings_shown.py  which settings are shown
    page.py            the page, and the terminal's summary
"""

from .._lazy import lazy_names


__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
