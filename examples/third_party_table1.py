"""Measures Table 1 of Gupta et al. 2017 with a method of your own beside the networks of this package.

python examples/third_party_table1.py DAVIS OUT
"""

import sys

import numpy as np
from numpy.typing import NDArray

import nststab


def posterized(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Whatever turns a frame (H, W, 3) into another one, such as `lambda frame: their_network(frame)`."""
    return frame // 64 * 64 + 32


if __name__ == "__main__":
    davis, output, *more = sys.argv[1:]
    mine = {"posterized": nststab.frame_by_frame(posterized)}
    print(nststab.experiments.table1(davis, output, styles=more or ["mosaic"], stylizers=mine).table())
