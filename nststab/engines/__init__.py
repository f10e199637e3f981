"""What runs a network: the same arithmetic on different machines, behind one protocol."""
