"""A small Hub on this machine: what demo, tests and trials publish to and download from.

Covers what the unmodified huggingface_hub client and transformers ask of a model repository:
accounts and tokens, create and delete, preupload, LFS, commits, listing, branches, tags, and files
with ranges and ETags, private and gated ones too. Does not cover Xet, datasets, Spaces, pull
requests, `.gitignore` rules, or accounts that are made over HTTP: tokens stand in a file.

Loopback only. Everything is on disk, content-addressed, and survives a kill: a ref only ever
names a commit whose bytes have all arrived.
"""

from tasks.core.demo.hub.access import Account
from tasks.core.demo.hub.server import HubAddress, running_hub, serve

__all__ = ["Account", "HubAddress", "running_hub", "serve"]
