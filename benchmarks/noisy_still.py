"""Is a recurrent network sound after hundreds of frames? A still with sensor noise, fed frame by frame.

python benchmarks/noisy_still.py CHECKPOINT PHOTO [--frames 300] [-o FOLDER]

Prints the mean of R, G and B along the clip, in levels of 255, their slope after the first ten frames, the change from
frame to frame, and the style and content loss against the clean still; writes some of the frames.
"""

import argparse
from pathlib import Path

import torch

from nststab.assets import perceptual_weights
from nststab.images import read_picture, resize, write_picture
from nststab.losses import LossSettings, PerceptualLoss
from nststab.stylizer import FeedForward, load_checkpoint, read_tensors
from nststab.vgg import PerceptualNetwork, normalization

SHOWN = (1, 2, 5, 10, 50, 100, 200, 300, 500, 1000)
SETTLED = 10  # frames after which a drift counts as one


def main() -> None:
    """Feeds the clip through and prints a line for some of its frames."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--noise", type=float, default=0.02, help="standard deviation, of a range of 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, help="folder for pictures; must exist")
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(arguments.checkpoint)
    still = resize(read_picture(arguments.photo).rgb, arguments.size)
    tensors, metadata = read_tensors(perceptual_weights())
    vgg = PerceptualNetwork(tensors, normalization(tensors, metadata))
    loss = PerceptualLoss(vgg, checkpoint.style, LossSettings())
    target = loss.content_targets(still)
    generator = torch.Generator().manual_seed(arguments.seed)
    noisy = (
        (still + arguments.noise * torch.randn(still.shape, generator=generator)).clamp(0, 1)
        for _ in range(arguments.frames)
    )
    means, previous = [], None
    for number, frame in enumerate(FeedForward(checkpoint.network)(noisy), 1):
        means.append(frame.mean(dim=(0, 2, 3)) * 255)
        if number in SHOWN:
            with torch.no_grad():
                terms = {name: float(term) for name, term in loss(frame, target).items()}
            change = 0.0 if previous is None else float((frame - previous).abs().mean()) * 255
            colour = ", ".join(f"{value:.1f}" for value in means[-1].tolist())
            print(f"frame {number:4}: RGB {colour}; change {change:.2f}; {terms}")
            if arguments.output:
                write_picture(arguments.output / f"{number:04}.png", frame)
        previous = frame
    settled = torch.stack(means[SETTLED:]).double()
    time = torch.arange(len(settled), dtype=torch.float64)
    slope = ((time - time.mean())[:, None] * settled).sum(0) / (time - time.mean()).square().sum()
    print("slope of RGB, levels a frame: " + ", ".join(f"{value:+.5f}" for value in slope.tolist()))


if __name__ == "__main__":
    main()
