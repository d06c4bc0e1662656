"""The web page on which people talk to a served model: a process of its own, using the gateway.

It talks only to the gateway, loads no model, and fetches nothing from the network. Its language is
Indonesian.
"""
