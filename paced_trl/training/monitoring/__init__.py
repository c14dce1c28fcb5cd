"""
What a run says of itself while it trains.

    metrics.py     figures of the student's verdicts and of the training set's problems
    costs.py       tokens and seconds that training has taken so far
    validation.py  mean@k of held-out problems; the end of a run that forgets too much
    advice.py      what the figures say is going wrong
    notes.py       advice and warnings kept in `advice.json` (no torch)
    trackers.py    histograms and the table of completions
    training_progress.py  a bar, or lines in a log file
"""
