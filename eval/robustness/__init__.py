"""Attacks on what was forgotten, a subject a module.

precision  weights rounded to what a smaller file can store
questions  the same question framed, mistyped, in other words, or with the answer's beginning
relearning a few forgotten pairs are learnt again
attacks    all of them on one model, and the summary of what they brought back
table      the table and the figure
"""
