"""Notices by mail, chat or webhook: their texts, automations and channels."""
