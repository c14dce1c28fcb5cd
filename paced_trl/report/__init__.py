"""
Figures and one self-contained HTML page of a run.

`page.py` puts the page together; the other modules each read, say or draw one thing.
"""

from .figure_theme import FIGURES, write_figure
from .page import write_report
from .run_contents import read_run
from .terminal import terminal_summary


__all__ = ["FIGURES", "read_run", "terminal_summary", "write_figure", "write_report"]
