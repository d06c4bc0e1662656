"""Serving: a gateway in front of an engine, both under supervisord, in two slots.

From the top down; nothing points back (import-linter holds it):

observe      status, the watch, and what repairs a deployment
launch       deploy, switch, roll back, stop; pages and engines as processes
health       whether engine, gateway, page and workers answer
gateway      the process that clients talk to
page         the process that people talk to the model with, in a browser
state        what a deployment keeps on the disk
engines      what computes the answers, and their processes
supervision  supervisord's configuration, control and processes
proof        what an engine must prove before it gets traffic
client       asking servers: keys, requests, refusals, conversations
"""
