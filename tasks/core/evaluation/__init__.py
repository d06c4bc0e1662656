"""Evaluation: what each model of the chain can do, measured, and whether that is good enough.

    figures   the job and the outcome, as values
    evaluate  run the measuring process and explain its end
    entry     the measuring process: perplexity, distance to the model before, answers
    gate      the recipe's limits against the outcome: a verdict with reasons
    report    the page and the markdown

Import from the modules: this package itself imports nothing.
"""
