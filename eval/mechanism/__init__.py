"""What happened inside a model that unlearned, a subject a module.

places   the private value of an answer, and its place among the tokens
views    likeliest tokens, logit lens and attribution of one model
weights  how far its weights moved from vanilla's
summary  what these say, in numbers and in words
figures  what they show
study    all of it for several models
"""
