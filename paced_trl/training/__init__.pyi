from .config import PacedConfig as PacedConfig
from .dataset import with_pass_rates as with_pass_rates
from .online_pass_rates import OnlinePassRates as OnlinePassRates
from .problem_sampler import FrontierSampler as FrontierSampler
from .run import distill as distill
from .trainer import PacedTrainer as PacedTrainer
