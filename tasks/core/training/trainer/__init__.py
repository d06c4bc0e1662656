"""Inside the training process: the trainers, their callbacks, losses, schedule and validation."""
