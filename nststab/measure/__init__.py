"""Measures of stability, content and style."""
