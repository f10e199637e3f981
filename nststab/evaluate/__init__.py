"""The paper's experiments, one file each; they receive stylizers and frames and never name a method."""
