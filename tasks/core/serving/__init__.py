"""Serving: FastChat's controller, worker and OpenAI server under supervisor.

`deploy`, `status`, `stop` and `chat` are what the rest of the project calls. FastChat runs in child
processes only; see `engines` for the modules that run inside them.
"""
