"""Training: loop, stages, recipe, card."""
