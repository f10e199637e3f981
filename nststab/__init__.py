"""Video stylization that does not flicker, and the measures that prove it."""

__version__ = "0.1.0"
