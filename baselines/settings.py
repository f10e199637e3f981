"""How pixels are optimised: the settings of Gatys', and of Ruder's single and several passes."""

from dataclasses import dataclass
from typing import Literal

from nststab.errors import SettingError
from nststab.settings import Settings, same, setting


@dataclass(frozen=True)
class GatysSettings(Settings):
    """How the pixels of a frame are optimised."""

    iterations: int = setting(500, "Updates of each frame at most.", least=0)
    optimizer: Literal["lbfgs", "adam"] = setting("lbfgs", "How to minimise.")
    learning_rate: float = setting(0.02, "Of Adam, on pixels in [0, 1]; L-BFGS has none.", least=0)
    init: Literal["content", "noise"] = setting("content", "What a frame starts from.")
    seed: int = setting(0, "Seed of everything random; the noise is the same for every frame.", least=0, most=2**32 - 1)
    tolerance: float = setting(
        1e-4, "Stop when the best loss fell by no more than this part of itself in 50 iterations.", least=0
    )
    chroma_weight: float = setting(
        10.0, "Weight of total variation of colour, apart from light, against red and green speckles.", least=0
    )
    coarse_iterations: int = setting(50, "Updates at most at each coarser scale.", least=0)


def rising(distances: tuple[int, ...]) -> tuple[int, ...]:
    """`distances`, or SettingError where they do not rise from 1: an optimisation begins with the previous result."""
    if distances[:1] != (1,) or list(distances) != sorted(set(distances)):
        raise SettingError(f"long_term: expected numbers that rise from 1, as in 1,2,4, got {distances}")
    return distances


@dataclass(frozen=True)
class RuderSettings(Settings):
    """How a clip is optimised in a single pass.

    The temporal weight of 50 is of `losses.ruder_temporal_loss`, beside a content and style loss scaled by energy: on
    DAVIS `soapbox` it raises the style loss by 10 % and leaves less change along the flow than the input has; 200
    raises it by a quarter and pushes the style into the untrusted pixels, as dark outlines. `long_term` is J: 1, 2, 4
    in the paper; 1 must be among them.
    """

    later_iterations: int = setting(150, "Updates of each later frame at most.", least=0)
    temporal_weight: float = setting(50.0, "Weight of the temporal loss.", least=0)
    long_term: tuple[int, ...] = setting(
        (1,), "How far back lie the frames that a frame is tied to, as in 1,2,4; each costs a flow."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        rising(self.long_term)


FIRST_PASS = 100
"""Updates of each frame at most in the first of several passes, where it stands alone, as in Ruder's program."""


@dataclass(frozen=True)
class MultiPassSettings(Settings):
    """How a clip is optimised in passes, odd ones forward, even ones backward.

    The paper took at least 10 passes, from noise; from the content, 5 were about as steady as a single pass, with less
    style loss (docs/ruder.md). `blend` is δ, 1/2 as in the paper; with 1, 5 passes changed 6 to 8 % less along the
    flow, at 1 % more content loss.
    """

    later_iterations: int = setting(100, "Updates of each frame at most in each later pass.", least=0)
    passes: int = setting(5, "Passes over a clip, in alternating direction.", least=1)
    blend: float = setting(
        0.5, "Part of the warped neighbour in what a frame of a later pass begins with.", least=0, most=1
    )
    temporal_weight: float = same(RuderSettings, "temporal_weight")
    temporal_from: int | None = setting(
        None, "Several passes: the first with the temporal loss.", least=2, told="the second half"
    )

    def has_temporal_loss(self, number: int) -> bool:
        """Whether pass `number`, 2 or later, has the temporal loss: by default the 8th of 15, as in Ruder's program."""
        first = self.passes // 2 + 1 if self.temporal_from is None else self.temporal_from
        return number >= first
