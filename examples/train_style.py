"""Trains the two networks of an own style: the independent one on photographs, the recurrent one on clips of them.

python examples/train_style.py painting.jpg PHOTOS FOLDER

PHOTOS is a folder of ten photographs or more. `nststab stylize clip.mp4 -o out.mp4 --style FOLDER` then takes FOLDER.
A killed run is resumed when the same command is given again.
"""

import argparse
import logging

import nststab

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("painting", "photos", "folder"):
        parser.add_argument(name)
    parser.add_argument("--effort", type=float, default=1.0, help="steps, as a multiple of the usual ones")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    made = nststab.train_style(options.painting, photos=options.photos, output=options.folder, effort=options.effort)
    print(made.table())
