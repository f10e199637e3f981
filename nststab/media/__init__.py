"""The formats behind video.py: codecs, pipes, timing, palettes. Only reader, writer and what they use need av."""
