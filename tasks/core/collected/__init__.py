"""Answers that people agreed to have kept: stored without who they are, reviewed, then learned.

- `storage`: the files of a deployment, line by line, and the lock on them.
- `privacy`: redaction before a text is written, and deletion on request or after its time.
- `review`: the answers to decide about, the decisions, and the reviewed set made of them.

`keeper` is what a gateway uses; `stale_artifacts` and `remote_copies` find what was made of answers
that are deleted.
"""
