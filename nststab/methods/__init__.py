"""The stylizers, and where they are built."""
