"""What a deployment leaves on the disk: its record, its routes, its slots."""
