"""The Gram traces of styles on the command line: from their pictures, or from their cards."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nststab.errors import SettingError

if TYPE_CHECKING:
    import torch

    from nststab.styles.source import StyleSource


def style_traces(
    styles: "Mapping[str, StyleSource]", options: Mapping[str, Any], device: "torch.device"
) -> dict[str, Mapping[str, float]]:
    """Of each style the trace at both layers, from its picture or its card; a usage error where it has neither.

    options: --network and --vgg-weights, by click's names.
    """
    from nststab.networks.perceptual import perceptual_network
    from nststab.styles.trace_line import traces
    from nststab.video.images import read_picture

    bundled = not (options["network"] or options["vgg_weights"])  # which the cards were written with
    network = perceptual_network(options["vgg_weights"], device, options["network"])
    found: dict[str, Mapping[str, float]] = {}
    for name, source in styles.items():
        picture = source.picture or source.shipped
        if picture:
            found[name] = traces(network, read_picture(picture).rgb)
        else:
            found[name] = _card_traces(source, bundled)
    return found


def _card_traces(source: "StyleSource", bundled: bool) -> Mapping[str, float]:
    """The traces that the card beside a style's networks tells."""
    from nststab.styles.shipped import Style
    from nststab.styles.trace_line import LAYERS

    folder = source.folder
    if folder is None:
        raise SettingError(
            f"the style {source.text} has no picture for its Gram trace; put the network into a folder, as "
            "independent.safetensors beside image.jpg, and give the folder"
        )
    if not bundled:
        raise SettingError(
            f"the style {source.text} has no picture: {folder} lacks image.jpg, and the traces of cards are those of "
            "the bundled VGG-16, not of --network and --vgg-weights"
        )
    try:
        told = Style(folder.name, folder).card["gram_trace"]
        return {layer: float(told[layer]) for layer in LAYERS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingError(
            f"the style {source.text} has no Gram trace: {folder} holds neither image.jpg nor a card.json with "
            f"gram_trace at {' and '.join(LAYERS)}"
        ) from error
