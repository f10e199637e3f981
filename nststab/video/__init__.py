"""Clips in and out: files, folders and pipes, with their times, audio and alpha."""
