"""What is released: the model card of a build, and whether a model here is what was signed."""
