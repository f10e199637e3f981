"""What a style can be."""
