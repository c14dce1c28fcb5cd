"""
Prompt -> completions, and the models that write them.

    completions.py          what a generator takes and returns
    engines.py              a generator by the name of its engine
    prompts.py              prompts -> token ids -> rows -> completions of a prompt, for every engine
    batching.py             rows: which generations are made together, and the seed of each
    transformers_engine.py  generation in this process with transformers
    padded_batch.py         a batch that runs until its longest row has ended: every model
    continuous_batch.py     a batch that finished rows leave and waiting ones enter
    attention_cache.py      keys and values as rows: copied, widened, cut, appended; what prompts begin with once
    device_memory.py        how large a batch the free memory allows
    seeded_sampling.py      one random stream per completion
    vllm_engine.py          generation in this process with vLLM
    openai_engine.py        generation on OpenAI-compatible servers
    servers.py              work spread over servers that may fail
    models.py               students, teachers and tokenizers from the Hub, directories and adapters
    identity.py             which weights, tokenizer and template these are
"""

from .._lazy import lazy_names


__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
