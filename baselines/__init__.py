"""Optimisation baselines: Gatys et al. 2016 per frame, Ruder et al. 2016 over time."""

if __name__ == "baselines":
    raise ImportError("import these modules as nststab.baselines")
