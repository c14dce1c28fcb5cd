from .contents import read_run as read_run
from .page import terminal_summary as terminal_summary
from .page import write_report as write_report
from .theme import FIGURES as FIGURES
from .theme import write_figure as write_figure
