"""What a model directory says about itself: configuration, code, template record."""
