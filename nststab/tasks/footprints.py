"""What each method and each clip adds to the memory of its process.

What can be counted is counted, the rest are constants which `benchmarks/plan.py` holds against measured peaks
(docs/plan.md): on a CPU the libraries' convolutions keep copies in layouts of their own, and allocators keep what was
freed. Bytes a pixel are of a frame (of a crop, in training), unless said otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from nststab.cli.clips import STANDARD
from nststab.engines.torch_engine import autocast
from nststab.losses import LossSettings, PerceptualLoss
from nststab.methods.build import OptimizerOptions, loop_settings
from nststab.networks.perceptual import layers_of, perceptual_network
from nststab.networks.transformation import TransformationNetwork
from nststab.settings import Precision
from nststab.styles.source import Style
from nststab.tasks.plan import Footprint, saved_for_backward
from nststab.vgg import PerceptualNetwork
from nststab.video.clip import Clip
from nststab.video.images import picture_size

_PICTURE = 12  # bytes a pixel of a float32 RGB picture
_PAIRS = 20  # that L-BFGS keeps, each two pictures
_WAITING, _IN_WORK = 5, 6  # pictures read ahead; those in work, in the writer and as bytes
_DECODED = 75  # a pixel of the source: a video decoder's references, bytes, and the frame before it is scaled
_READ = 45  # a pixel of a picture: what Pillow holds, bytes and floats
_ENCODED = {".mp4": 275, ".mkv": 275, ".webm": 230, ".gif": 230}  # a pixel of the output: what the encoder looks ahead
_LOOKAHEAD = 50  # frames after which an encoder holds all that
_WRITTEN = 60  # of a frame that is written as a picture, or to a pipe
_FEED_FORWARD = {"float32": Footprint(25e6, 1180), "bfloat16": Footprint(60e6, 850), "float16": Footprint(60e6, 850)}
_FULL_WIDTHS = 32 + 64  # channels of the two finest layers, to which the above belong
_OPTIMIZATION, _OPTIMIZATION_LATER = 300e6, 60e6  # beyond what autograd saves: at once, and after many iterations
_TRAINING, _TRAINING_DATA = 290e6, 60e6
_BOTH_TYPES = 1.15  # in training, 16-bit gradients meet float32 ones of the same layer
_TEMPORAL = 300  # a pixel of each frame of a clip that is trained on
_FLOW = {"deepflow": Footprint(40e6, 220), "dis": Footprint(40e6, 240)}  # a thread's, and fixed once
_FLOW_THREADS = 2
_FLOW_PAIR = 48  # two flows and two masks, and the frames between which they lie
_MASKS = 60
_STYLE = 150e6
_STYLE_PICTURE = 1300  # a pixel of the style picture, while its Gram matrices are computed
_MEASURED = 800  # of `compare`, which looks at each picture with the perceptual network, without gradient


def of_network(network: TransformationNetwork, precision: Precision) -> Footprint:
    """A feed-forward network's frame."""
    fixed, per_pixel = _FEED_FORWARD[precision]
    return Footprint(fixed, per_pixel * sum(network.config.widths[:2]) / _FULL_WIDTHS)


def of_optimization(options: OptimizerOptions, precision: Precision) -> Footprint:
    """Two iterations of an optimisation."""
    network = perceptual_network(options.vgg_weights, torch.device("cpu"), options.network, options.pooling)
    loss = unstyled(network, replace(LossSettings(), **(layers_of(network) | dict(options.loss))))

    def terms(pixels: Tensor) -> Mapping[str, Tensor]:
        with autocast(pixels.device, precision):
            return loss(pixels, loss.content_targets(pixels.detach()))

    return Footprint(_OPTIMIZATION, saved_for_backward(terms) + 8 * _PICTURE)


def of_history(options: OptimizerOptions) -> Footprint:
    """What an optimisation of many iterations keeps besides."""
    settings = loop_settings(options)
    if settings.optimizer != "lbfgs":
        return Footprint(_OPTIMIZATION_LATER, 2 * _PICTURE)
    return Footprint(
        _OPTIMIZATION_LATER, 2 * min(_PAIRS, max(settings.iterations, *(options.iterations or (0,)))) * _PICTURE
    )


def of_ruder(options: OptimizerOptions) -> Footprint:
    """The flow that is estimated ahead, and the results before, to which a frame is tied."""
    distances = options.long_term or (1,)
    held = Footprint(0, (_FLOW_THREADS + 1) * len(distances) * _FLOW_PAIR + max(distances) * _PICTURE)
    return held if options.flow.files else held.plus(of_flow(options.flow.method))


def of_flow(method: str) -> Footprint:
    """An estimator in its threads."""
    fixed, per_pixel = _FLOW[method]
    return Footprint(fixed, _FLOW_THREADS * per_pixel)


def of_pairs(distances: Sequence[int]) -> Footprint:
    """Frames and flows that `flow estimate` holds, and the masks in the making."""
    return Footprint(0, (_FLOW_THREADS + 1) * len(distances) * _FLOW_PAIR + max(distances) * _PICTURE + _MASKS)


def of_training(network: TransformationNetwork, loss: PerceptualLoss, precision: Precision, images: int) -> Footprint:
    """A step on `images` crops: those of a batch, times the frames of a clip."""

    def terms(pixels: Tensor) -> Mapping[str, Tensor]:
        with autocast(pixels.device, precision):
            return loss(network(pixels), loss.content_targets(pixels.detach()))

    saved = saved_for_backward(terms, loss.network.mean.device)
    both = 1.0 if precision == "float32" else _BOTH_TYPES
    return Footprint(_TRAINING, saved * both * images)


def of_training_data(images: int, length: int) -> Footprint:
    """Crops that are read ahead, those of the validation, and what the temporal loss of clips needs."""
    if length == 1:
        return Footprint(_TRAINING_DATA, (3 * images + 8) * _PICTURE)
    return Footprint(_TRAINING_DATA, (3 * images + 4 * length) * 2 * _PICTURE + images * _TEMPORAL)


def of_style_picture(pixels: float) -> Footprint:
    """The Gram matrices of a style picture of so many pixels."""
    return Footprint(_STYLE + pixels * _STYLE_PICTURE if pixels else 0)


def of_style(style: Style, scale: float, clip: Clip) -> Footprint:
    """The same of a style that is scaled along with the frames."""
    sources = (style.drawn() if scale != 1 else style).sources
    pictures = [source.picture for source in sources if source.picture]
    if not pictures:
        return Footprint()
    square = max(min(size) / max(size) for size in map(picture_size, pictures))  # part of the square on the long side
    pixels = (max(clip.width, clip.height) * scale) ** 2 * square / (clip.width * clip.height)
    return Footprint(_STYLE, pixels * _STYLE_PICTURE)


def of_reading(clip: Clip) -> Footprint:
    """What reads a clip ahead, and its frames that wait; the reader's part depends on the source's size."""
    width, height = source_size(clip)
    if clip.kind == "picture":
        return Footprint(0, _PICTURE)
    return Footprint(10e6 + width * height * (_READ if clip.reader is None else _DECODED), _WAITING * _PICTURE)


def of_picture(clip: Clip) -> Footprint:
    """The reading of a picture, which is over before it is stylized."""
    width, height = source_size(clip)
    return Footprint(width * height * _READ if clip.kind == "picture" else 0)


def of_writing(clip: Clip, output: str, panels: int = 1) -> Footprint:
    """Frames in work and the encoder, each `panels` frames wide; a picture is written when all else is over."""
    if clip.kind == "picture":
        return Footprint(0, 2 * _PICTURE)
    encoded = _WRITTEN if output == STANDARD else _ENCODED.get(Path(output).suffix.lower(), _WRITTEN)
    if encoded != _WRITTEN and clip.frame_count is not None:
        encoded = round(encoded * min(1.0, (clip.frame_count + 5) / _LOOKAHEAD))
    return Footprint(0, panels * (encoded + _IN_WORK * _PICTURE))


def of_measuring(panels: int) -> Footprint:
    """`compare`'s figures, of the pictures of a frame and of the frame before."""
    return Footprint(30e6, _MEASURED + 2 * panels * _PICTURE)


def source_size(clip: Clip) -> tuple[int, int]:
    """Width and height before --size."""
    if clip.reader is not None:
        return clip.reader.width, clip.reader.height
    height, width = picture_size(clip.pictures[0])
    return width, height


def unstyled(network: PerceptualNetwork, settings: LossSettings) -> PerceptualLoss:
    """A loss in all but its style, which is not computed yet: enough to count."""
    network.require(settings.style_layers)
    sides = {layer: len(network.weights[f"{layer}_bias"]) for layer in settings.style_layers}
    grams = {layer: torch.zeros(1, side, side, device=network.mean.device) for layer, side in sides.items()}
    return PerceptualLoss(network, grams, settings)
