"""The optimisation baselines; in a checkout their files stand in ../../baselines, in a wheel they stand here."""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parents[2] / "baselines")]
