"""Optical flow: estimated, kept, read from files, drawn."""
