"""The environment variables that hold keys; apart, so that naming them loads no HTTP library."""

API_KEYS_VARIABLE = "KAWAN_USAHA_API_KEYS"
"""Holds the keys that a gateway takes."""

API_KEY_VARIABLE = "KAWAN_USAHA_API_KEY"
"""Holds the key that we ask with, where the gateway wants one."""
