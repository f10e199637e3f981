"""Perceptual networks that torchvision downloads: `--network vgg16|vgg19`."""

import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import torch
from torch import Tensor

from nststab.errors import NststabError

NETWORKS = {
    # The original weights; torchvision has only its own, trained on normalised input, of VGG-19.
    "vgg16": ("VGG16_Weights", "IMAGENET1K_FEATURES"),
    "vgg19": ("VGG19_Weights", "IMAGENET1K_V1"),
}


def pretrained(name: str, announce: Callable[[str], None]) -> dict[str, Tensor]:
    """The weights of a network by torchvision's names: downloaded once, checked by their hash and kept in its cache.

    `announce` hears of the download before it begins.

    Raises:
        OSError: torchvision cannot be loaded, or the download failed; says what to do.
        ValueError: the file in the cache is damaged.
    """
    weights = _weights(name)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if not cached.is_file():
        announce(f"downloading {name} from {weights.url}")
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # torch announces it, too
            state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:  # no network, a refusal, another hash, a full disk, a damaged pickle
        reason = " ".join(str(getattr(error, "reason", error)).split())
        if cached.is_file():
            raise NststabError(f"{cached} is damaged ({reason[:80]}): delete it, and it is downloaded again") from error
        advice = f"fetch {weights.url} on another machine and give vgg_weights=FILE"
        raise OSError(f"{name} cannot be downloaded ({reason}): {advice}") from error
    return state


def _weights(name: str):  # type: ignore[no-untyped-def]
    """torchvision's entry for a network, which knows its address."""
    try:
        import torchvision.models
    except Exception as error:  # a torchvision built for another torch fails in ways of its own
        reason = " ".join(str(error).split())[:120]
        advice = f"install the one that belongs to torch {torch.__version__}, or give vgg_weights=FILE"
        raise OSError(f"torchvision cannot be loaded ({reason}): {advice}") from error
    family, member = NETWORKS[name]
    return getattr(torchvision.models, family)[member]
