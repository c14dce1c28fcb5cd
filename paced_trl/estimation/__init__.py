"""
Problems + engine + verifier -> pass rates and references.

    pass_rates.py            the table of pass rates
    filling.py               the loop that fills a store, under pass rates and references
    protocols.py             what a generator and a verifier owe it
    references.py            the teacher's verified completions, and those that the user brings
    stored_problems.py       what a store's completions answer: problems and prompt settings
    inspection.py            what is in a store, for a person
    summary.py               what a person should know of a table of pass rates
    advice.py                when shares call for advice, and what it says
    published_pass_rates.py  pass rates as a dataset on the Hub
    solution_likelihood.py   the student's log-probability of each solution
"""

from .._lazy import lazy_names


__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
