"""Checkpoints: which are whole, what they may contain, how another ZeRO stage resumes from them."""
