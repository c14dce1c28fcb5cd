from .completions import Completion as Completion
from .completions import Generator as Generator
from .completions import SamplingParameters as SamplingParameters
from .engines import load_generator as load_generator
from .models import load_model as load_model
from .models import load_tokenizer as load_tokenizer
from .transformers_engine import TransformersGenerator as TransformersGenerator
