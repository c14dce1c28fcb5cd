"""
Figures and one self-contained HTML page of a run.

`page.py` puts the page together; the other modules each read, say or draw one thing.
"""

from .contents import read_run
from .page import write_report
from .terminal import terminal_summary
from .theme import FIGURES, write_figure


__all__ = ["FIGURES", "read_run", "terminal_summary", "write_figure", "write_report"]
