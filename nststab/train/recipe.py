"""How `nststab train style` makes a style's two networks: the stages, their lengths and sizes."""

from dataclasses import dataclass, replace

from nststab.networks.transformation import MARGIN


@dataclass(frozen=True)
class StageSettings:
    """One stage: `steps` of Adam on square crops of side `size`, of clips where there are several `frames`.

    `batch` is that of a CPU, where two pictures take twice the time of one; a GPU may have room for more.
    """

    steps: int
    size: int
    frames: int = 1
    learning_rate: float = 1e-3
    temporal_weight: float = 0.0
    batch: int = 1

    @property
    def kind(self) -> str:
        """`image` or `video`."""
        return "video" if self.frames > 1 else "image"


@dataclass(frozen=True)
class Recipe:
    """The stages, the first of pictures and the others of clips; weight and longest side of the style; the margin.

    It begins with the networks of another style, which takes a fraction of the steps that random weights need. What was
    tried and measured stands in docs/training.md.
    """

    stages: tuple[StageSettings, ...] = (
        StageSettings(800, 256),
        StageSettings(300, 256, frames=4, temporal_weight=50.0),
    )
    style_weight: float = 2.0
    style_size: int = 512
    margin: int = MARGIN

    def scaled(self, effort: float) -> "Recipe":
        """With `effort` times the steps, one of each stage at least."""
        stages = tuple(replace(stage, steps=max(1, round(stage.steps * effort))) for stage in self.stages)
        return replace(self, stages=stages)
