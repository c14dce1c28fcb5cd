from .arms import PRESETS as PRESETS
from .comparison import Comparison as Comparison
from .diagnosis import with_fitted_exponents as with_fitted_exponents
from .differences import compare_runs as compare_runs
from .evaluation import Evaluation as Evaluation
from .evaluation import evaluate_model as evaluate_model
from .run_comparison import run_comparison as run_comparison
