"""A small Hub on this machine, which demo, tests and trials publish to and download from.

Covers what the unmodified huggingface_hub client and transformers ask of a model repository:
accounts and tokens, create and delete, preupload, LFS, commits, listing, branches, tags, and files
with ranges and ETags, private and gated ones too. Does not cover Xet, data sets, Spaces, pull
requests, `.gitignore` rules, or making accounts over HTTP: tokens stand in a file.

Loopback only. Everything is stored on the disk by its content, and survives a kill: a ref never
names a commit of which a byte has not arrived.
"""

from tasks.core.demo.hub.access import HubAccount
from tasks.core.demo.hub.server import HubAddress, running_hub, serve_hub

__all__ = ["HubAccount", "HubAddress", "running_hub", "serve_hub"]
