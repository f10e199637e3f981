"""Shows a clip, what the independent network makes of it frame by frame, and that steadied: the README's picture.

python benchmarks/deflicker_picture.py nststab/clips/big_buck_bunny.mp4 docs/pictures/deflicker.gif
"""

import argparse

import nststab
from nststab.methods.build import build, machine
from nststab.methods.deflicker import Deflicker, Steadied
from nststab.styles.source import chosen_style

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("source")
parser.add_argument("output")
parser.add_argument("--style", default="starry_night")
parser.add_argument("--size", type=int, default=224)
parser.add_argument("--fps", type=float, default=25)
parser.add_argument("--start", type=float, default=0)
parser.add_argument("--duration", type=float, default=0.8)
options = parser.parse_args()
network = build(
    "independent",
    chosen_style([options.style], None),
    longest_side=options.size,
    machine=machine("cpu", "float32"),
)
found = nststab.compare(
    **vars(options), methods=(), stylizers={"frame by frame": network, "deflicker": Steadied(network, Deflicker())}
)
print(found.table())
