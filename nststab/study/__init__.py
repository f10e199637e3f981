"""People as the measure, as in Table 3 of Gupta et al. 2017: blind pairs of clips, a page that asks, what it found.

`make_study`, `StudyServer`, `pack_study`, `collect` and `results` are loaded when they are asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nststab.study.answers import collect
    from nststab.study.make import make_study
    from nststab.study.page import StudyServer, pack_study
    from nststab.study.results import results

_MODULES = {
    "StudyServer": "page",
    "collect": "answers",
    "make_study": "make",
    "pack_study": "page",
    "results": "results",
}
__all__ = ["StudyServer", "collect", "make_study", "pack_study", "results"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
