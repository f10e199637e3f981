"""Training: settings, loop, stages, one network of many styles, the folder and the card of a style."""
