"""What the demo brings along: a small real model, and a Hub on this machine to publish to."""
