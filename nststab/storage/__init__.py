"""Whole files, kept work and what it belongs to."""
