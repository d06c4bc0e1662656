"""Answers that people agreed to have kept: written, read, limited and deleted, without names."""
