"""Measures how steady a clip is that any program made of another, whose frames and flow are the reference.

python examples/score_clip.py original.mp4 stylized.mp4 [another.mp4 ...] --style painting.jpg
"""

import argparse

import nststab

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("original")
parser.add_argument("stylized", nargs="+")
parser.add_argument("--style", help="the style they were given; a clip may be steady because it has little of it")
print(nststab.score(**vars(parser.parse_args())).table())
