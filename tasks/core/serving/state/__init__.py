"""What a deployment keeps on the disk: its record, its routes, its two slots."""
