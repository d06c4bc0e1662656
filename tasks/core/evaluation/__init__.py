"""Evaluation: measures each model of the chain, and decides whether the last is good enough.

    figures       the job and the outcome, as values
    evaluate      runs the measuring process and explains its failures
    entry         the measuring process; `measuring` measures one model after the other
    chain_figures, scoring, predictions, answering   perplexity, distances between models, answers
    benchmarks    benchmarks of lm-eval
    side_by_side  has a judge compare two models' answers; judge_*, judgement*, rated_pairs
    gate          applies the recipe's limits to the outcome: a verdict with reasons
    summary       the figures as Markdown and as plain values
    report        the report: one HTML page, with `charts`

Import from the modules: this package itself imports nothing.
"""
