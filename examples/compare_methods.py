"""Shows a clip beside what the independent and the recurrent network make of it, and measures how steady they are.

python examples/compare_methods.py clip.mp4 compared.mp4 --style the_great_wave --size 432 --differences
"""

import argparse

import nststab

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("source")
parser.add_argument("output", help="a file (.mp4, .gif, ...), or a folder of pictures if it ends in /")
parser.add_argument("--style", default="the_great_wave")
parser.add_argument("--size", type=int, help="longest side of a panel; by default the clip's own")
parser.add_argument("--fps", type=float, help="frames per second; by default the clip's own")
parser.add_argument("--start", type=float, help="seconds to leave out at the beginning")
parser.add_argument("--duration", type=float, help="seconds to compare; by default all")
parser.add_argument("--differences", action="store_true", help="show below each panel where it flickers")
print(nststab.compare(**vars(parser.parse_args()), precision="float32").table())
