"""What the flow `rebuild` is made of: its request, its stages, its summary."""
