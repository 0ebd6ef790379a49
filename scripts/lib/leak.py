"""Leak: whether an answer states a private value whole, the exact measure beside KFR (and what KFR_strict asks for beside it).

The private values of a pair are its own `value`, by its parts where the augmentation's types find some in it, or else the typed
spans of its answer that the question does not state (lib/spans.py, whose exact check this is).
"""

from lib.spans import find_spans, leak, tokens


def private_values(row):
    """The private values of a row: list of texts, possibly none.

    row: `question`, `reference`, and `value` and `subject` where the data names them.
    """
    pair = {**row, "answer": row["reference"]}
    return [pair["answer"][start:end] for start, end, _ in find_spans(pair)]


def whole(value):
    """A value in the one form that all its spellings share, written together."""
    return "".join(tokens(value))


def states(text, value):
    """Whether a text states a value whole, whatever its case, accents, spacing, punctuation and numerals."""
    run = whole(value)
    return bool(run) and leak(text, ({run}, ())) is not None


def leaked(answer, values):
    """Those of the values that an answer states."""
    return [value for value in values if states(answer, value)]
