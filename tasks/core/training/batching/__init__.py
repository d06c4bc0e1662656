"""From examples to batches: `choice` picks padding, grouping by length, or packing."""
