"""The colours of clips in charts: a method has the same in all of them."""

from collections.abc import Sequence

from nststab.errors import NststabError

# Okabe and Ito's, which those who see few colours tell apart too. The first, the input's, is that of the text.
SERIES = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
METHOD_SERIES = {"input": 0, "recurrent": 1, "independent": 2, "ruder": 3, "gatys": 4}


def series_of(names: Sequence[str]) -> list[int]:
    """The number in `SERIES` of each clip, the input's first.

    A clip has the colour of the method that it is called by (`dog-recurrent.mp4`), the first of several; the others
    have those that are left, in order. Raises ValueError for more clips than colours.
    """
    if len(names) > len(SERIES):
        raise NststabError(f"expected at most {len(SERIES)} clips to tell apart, got {len(names)}")
    own: dict[int, int] = {0: 0}
    for place, name in enumerate(names[1:], 1):
        called = [number for method, number in METHOD_SERIES.items() if number and method in name.lower()]
        if len(called) == 1 and called[0] not in own.values():
            own[place] = called[0]
    free = iter(sorted(set(range(len(SERIES))) - set(own.values())))
    return [own[place] if place in own else next(free) for place in range(len(names))]
