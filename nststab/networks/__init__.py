"""Architectures, their weights in files, and the perceptual network's."""
