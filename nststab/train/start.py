"""What the training of a style begins with: the networks of another style."""

from dataclasses import dataclass

import torch

from nststab.errors import SettingError
from nststab.losses import StyleTarget, style_loss
from nststab.networks.transformation import TransformationNetwork, make_recurrent, transfer_recurrence, with_margin
from nststab.styles.shipped import styles
from nststab.styles.source import StyleSource, style_name, style_source
from nststab.vgg import PerceptualNetwork


@dataclass(frozen=True)
class Start:
    """The style to begin with, and `why` it is this one; `recurrent` is None where it has no such network."""

    name: str
    why: str
    independent: TransformationNetwork
    recurrent: TransformationNetwork | None

    def widened(self, network: TransformationNetwork) -> TransformationNetwork:
        """`network` made recurrent, with what fine-tuning changed in the start style's networks."""
        if self.recurrent is None:
            return make_recurrent(network)
        return transfer_recurrence(network, self.independent, self.recurrent)


def independent_network(style: str) -> TransformationNetwork:
    """The independent network of a shipped style, or of a checkpoint, for --start-from."""
    return _trained(style).trained("independent").network


def starting_style(
    style: str | None, target: StyleTarget, perceptual: PerceptualNetwork, style_size: int, margin: int
) -> Start:
    """The named style, or the shipped one whose Gram targets are nearest; its networks with another margin."""
    if style is None:
        source, why = _nearest(target, perceptual, style_size)
    else:
        source, why = _trained(style), "as --start-from says"
    independent = with_margin(source.trained("independent").network, margin)
    assert source.checkpoint is not None
    path = source.checkpoint("recurrent")
    if path == source.checkpoint("independent") or not path.is_file():  # a checkpoint, not a folder of both
        return Start(style_name(source.text), f"{why}, which has no recurrent network", independent, None)
    recurrent = with_margin(source.trained("recurrent").network, margin)
    start = Start(style_name(source.text), why, independent, recurrent)
    start.widened(independent)  # raises where the two do not go together, rather than after the first stage
    return start


def distance(target: StyleTarget, other: StyleTarget) -> float:
    """The style loss, scaled by energy, that a picture with the Gram matrices of `other` has for the `target`."""
    return float(torch.stack([style_loss(other[layer], gram) for layer, gram in target.items()]).sum())


def _trained(style: str) -> StyleSource:
    source = style_source(style)
    if source.checkpoint is None:
        raise SettingError(f"--start-from: expected a trained style, {style} is a picture")
    return source


def _nearest(target: StyleTarget, perceptual: PerceptualNetwork, style_size: int) -> tuple[StyleSource, str]:
    """Of the shipped styles with both networks."""
    shipped = [style_source(style.name) for style in styles() if len(style.methods) == 2]
    if not shipped:
        raise SettingError("no style is shipped to begin with; name one of your own with --start-from")
    layers = tuple(target)
    distances = [distance(target, source.target(perceptual, layers, style_size)) for source in shipped]
    nearest = min(range(len(shipped)), key=distances.__getitem__)
    why = f"the nearest of {len(shipped)} shipped styles" if len(shipped) > 1 else "the only shipped style"
    return shipped[nearest], why
