"""Asking servers: with which key, what a refusal means, a conversation that fits the context."""
