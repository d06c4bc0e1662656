"""The environment variables that hold API keys; apart, so that naming them loads no library."""

API_KEYS_VARIABLE = "KAWAN_USAHA_API_KEYS"
"""Holds the keys that a gateway accepts."""

API_KEY_VARIABLE = "KAWAN_USAHA_API_KEY"
"""Holds the key that a client of ours sends, if the gateway requires one."""
