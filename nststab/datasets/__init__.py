"""Photographs, MPI Sintel, DAVIS and synthetic clips."""
