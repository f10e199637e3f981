"""The colours of clips in charts: a method has the same in all of them."""

from collections.abc import Sequence

# Okabe and Ito's, which those who see few colours tell apart too. The first, the input's, is that of the text.
SERIES = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
METHOD_SERIES = {"input": 0, "recurrent": 1, "independent": 2, "ruder": 3, "gatys": 4}


def series_of(names: Sequence[str]) -> list[int]:
    """The number in `SERIES` of each clip: a method's own, and for other clips those that are left, in order.

    Raises ValueError for more clips than colours.
    """
    if len(names) > len(SERIES):
        raise ValueError(f"expected at most {len(SERIES)} clips to tell apart, got {len(names)}")
    own = {name: METHOD_SERIES[name] for name in names if name in METHOD_SERIES}
    free = iter(sorted(set(range(1, len(SERIES))) - set(own.values())))
    return [own[name] if name in own else next(free) for name in names]
