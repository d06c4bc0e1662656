"""Conversations as tokens and labels, in files that every training process maps into its memory."""
