"""The paper's tables and figures, and our own: each a function of this package.

`table1`, `speed` (Table 2), `gram_trace` (Figure 3), `distortions` (Figure 6), `theorem` (Figure 2),
`drift` and `shift`; `paper_figure` draws Figures 7, 8 and 9 of any clips. They are loaded when they are asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nststab.experiments.figure2 import theorem
    from nststab.experiments.figure3 import gram_trace
    from nststab.experiments.figure6 import distortions
    from nststab.experiments.long_runs import drift
    from nststab.experiments.moment_figures import paper_figure
    from nststab.experiments.movement import shift
    from nststab.experiments.stability import table1
    from nststab.experiments.table2 import speed

_MODULES = {
    "table1": "stability",
    "speed": "table2",
    "gram_trace": "figure3",
    "distortions": "figure6",
    "theorem": "figure2",
    "drift": "long_runs",
    "paper_figure": "moment_figures",
    "shift": "movement",
}
__all__ = ["distortions", "drift", "gram_trace", "paper_figure", "shift", "speed", "table1", "theorem"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
