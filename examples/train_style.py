"""Trains the two networks of an own style: the independent one on photographs, the recurrent one on clips of them.

python examples/train_style.py painting.jpg PHOTOS FOLDER --image-steps 800 --video-steps 300

PHOTOS is a folder of ten photographs or more. `nststab stylize clip.mp4 -o out.mp4 --style FOLDER` then takes FOLDER.
A killed run goes on when the same command is given again.
"""

import argparse
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

import torch

from nststab.datasets.folders import PhotoFolder
from nststab.datasets.synthetic import SyntheticSettings
from nststab.losses import LossSettings, PerceptualLoss, style_target
from nststab.networks.checkpoints import Checkpoint, load_checkpoint, load_perceptual, save_checkpoint, save_target
from nststab.networks.transformation import TransformationNetwork, transfer_recurrence
from nststab.styles.shipped import NETWORKS, Style, find_style, perceptual_weights
from nststab.train.loop import Stage, TrainingSettings, fit, training_identity
from nststab.train.stages import ImageStage, VideoData, VideoSettings, VideoStage
from nststab.video.images import read_picture, resize

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def train_style(
    painting: Path,
    photos: Path,
    folder: Path,
    start: str,
    style_size: int,
    image_steps: int,
    video_steps: int,
    size: int,
) -> None:
    """Writes both networks and the Gram matrices of `painting` to `folder`."""
    style, begun = Style(folder.name, folder), find_style(start)
    seen, held_out = PhotoFolder(photos).hold_out()
    vgg = load_perceptual(perceptual_weights()).to(DEVICE)
    weights = LossSettings(style_weight=2.0)
    target = style_target(vgg, resize(read_picture(painting).rgb, style_size).to(DEVICE), weights.style_layers)
    loss = PerceptualLoss(vgg, target, weights)
    folder.mkdir(parents=True, exist_ok=True)

    def train(method: str, network: TransformationNetwork, stage: Stage, settings: TrainingSettings) -> None:
        # the state belongs to this painting, these photographs and this network to begin with, and serves no other
        identity = training_identity({"method": method, "loss": asdict(weights)}, network, target, vgg, seen)
        state = folder / f"{method}.state"
        fit(network, stage, settings, state, identity, validated=lambda step, found: print(method, step, found.terms))
        save_checkpoint(style.checkpoint(method), Checkpoint(network))

    independent, recurrent = (load_checkpoint(begun.checkpoint(method)).network.to(DEVICE) for method in NETWORKS)
    network = deepcopy(independent)
    settings = TrainingSettings(image_steps, height=size, width=size, precision="float32", validate_every=50)
    stage = ImageStage(seen, loss, settings, DEVICE, held_out.center_crops(size, size))
    train("independent", network, stage, settings)

    network = transfer_recurrence(network, independent, recurrent).to(DEVICE)  # it knows how to use the frame before
    settings = TrainingSettings(video_steps, height=size, width=size, precision="float32", validate_every=50)
    clips = SyntheticSettings(length=4, height=size, width=size)
    moving = VideoData(held_out, clips).clips(4, torch.Generator().manual_seed(0))
    video = VideoSettings(temporal_weight=50.0)
    train("recurrent", network, VideoStage(VideoData(seen, clips), loss, video, settings, DEVICE, moving), settings)
    save_target(style.target, target, {"perceptual": vgg.fingerprint, "style_size": style_size})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("painting", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--start", default="the_great_wave", help="shipped style with whose networks it begins")
    parser.add_argument("--style-size", type=int, default=512, help="longest side of the painting in pixels")
    parser.add_argument("--image-steps", type=int, default=800)
    parser.add_argument("--video-steps", type=int, default=300)
    parser.add_argument("--size", type=int, default=256, help="side of the crops in pixels")
    train_style(**vars(parser.parse_args()))
