"""What a study asks, and how it is made."""

from dataclasses import dataclass
from fractions import Fraction

from nststab.settings import Settings, setting
from nststab.video.settings import parse_time

QUESTIONS = {
    "flicker": "Which flickers more?",
    "style": "Which matches the style better?",
    "preference": "Which do you prefer overall?",
}
"""The three questions of Gupta et al. 2017, section 5.4, each answered by a clip or by "about the same"."""


LOOPBACK, PORT = "127.0.0.1", 8765


@dataclass(frozen=True)
class StudySettings(Settings):
    """How clips are shown, and how many pairs of them each person judges."""

    size: int = setting(480, "Longest side of a clip on the page, in pixels.", least=16, metavar="PIXELS")
    seconds: Fraction = setting(
        Fraction(10), "How much of each clip is shown.", above=0, metavar="SECONDS", parse=parse_time
    )
    pairs: int = setting(20, "Pairs that each person judges, without those that catch who does not look.", least=1)
    seed: int = setting(0, "Seed of pairs, sides and order.", least=0, most=2**32 - 1)
