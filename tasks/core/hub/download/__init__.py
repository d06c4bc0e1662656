"""What a recipe is made of, brought here: models and data sets of a Hub, or of this machine."""
