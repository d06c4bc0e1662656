"""The model card: what a published model is, where it comes from, and how to use it."""
