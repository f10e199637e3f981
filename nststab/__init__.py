"""Video stylization that does not flicker, and the measures that prove it.

nststab.stylize("clip.mp4", "out.mp4", style="the_great_wave")
print(nststab.score("clip.mp4", ["mine.mp4"], style="painting.jpg").table())
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nststab import experiments as experiments
    from nststab.errors import NststabError as NststabError
    from nststab.frames import Frame as Frame
    from nststab.methods.painter import Painter as Painter
    from nststab.methods.painter import frame_by_frame as frame_by_frame
    from nststab.methods.painter import paint_batch as paint_batch
    from nststab.tasks.compare import compare as compare
    from nststab.tasks.deflicker import deflicker as deflicker
    from nststab.tasks.export import export as export
    from nststab.tasks.live import live as live
    from nststab.tasks.preview import preview as preview
    from nststab.tasks.score import score as score
    from nststab.tasks.score import score_sequences as score_sequences
    from nststab.tasks.stylize import optimize as optimize
    from nststab.tasks.stylize import stylize as stylize
    from nststab.tasks.train_style import train_style as train_style
    from nststab.video.clip import clip_of as clip_of

__version__ = "0.1.0"

_LAZY = {  # PEP 562: `import nststab` does not wait for torch
    "Frame": "nststab.frames",
    "NststabError": "nststab.errors",
    "Painter": "nststab.methods.painter",
    "clip_of": "nststab.video.clip",
    "compare": "nststab.tasks.compare",
    "deflicker": "nststab.tasks.deflicker",
    "export": "nststab.tasks.export",
    "frame_by_frame": "nststab.methods.painter",
    "live": "nststab.tasks.live",
    "optimize": "nststab.tasks.stylize",
    "paint_batch": "nststab.methods.painter",
    "preview": "nststab.tasks.preview",
    "score": "nststab.tasks.score",
    "score_sequences": "nststab.tasks.score",
    "stylize": "nststab.tasks.stylize",
    "train_style": "nststab.tasks.train_style",
}
_MODULES = ("experiments", "startup")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"nststab.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module 'nststab' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_MODULES})
