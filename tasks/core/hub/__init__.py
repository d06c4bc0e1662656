"""Download and upload through huggingface_hub, and a Hub of our own for trials."""
