"""
What cannot work is refused before weights load.

    before_loading.py  a run as a whole: its two models, its data and its settings together
    side.py            what is known of a model without its weights
    trainability.py    number formats, quantisation, adapters, teachers, devices
    vocabulary.py      whether student and teacher speak of the same tokens
    self_teacher.py    whether a student with privileged context is a better teacher than without
    lengths.py         whether prompts and completions fit the models
"""
