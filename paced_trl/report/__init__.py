"""
Figures and one self-contained HTML page of a run.

`page.py` puts the page together; the other modules each read, say or draw one thing.
"""

from .figure_theme import write_figure
from .page import write_report


__all__ = ["write_figure", "write_report"]
