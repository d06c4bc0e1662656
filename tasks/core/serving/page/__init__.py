"""The page on which people talk with a served model: a process of its own, before the gateway.

It asks the gateway alone, loads no model, and fetches nothing from the network. What it shows is
Indonesian.
"""
