"""What a training is of: a run goes on only with the same."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from nststab.cli.perceptual import fingerprint
from nststab.datasets import PhotoFolder
from nststab.losses import StyleTarget
from nststab.networks import TransformationNetwork
from nststab.vgg import PerceptualNetwork


def training_identity(
    record: Mapping[str, Any],
    network: TransformationNetwork,
    target: StyleTarget,
    vgg: PerceptualNetwork,
    photos: PhotoFolder,
) -> dict[str, Any]:
    """The settings in `record`, and the contents that decide the result, as JSON values."""
    return {
        **record,
        "margin": network.config.margin,
        "perceptual": fingerprint(vgg),
        "style_content": _digest(target.values()),
        "start_network": _digest(network.state_dict().values()),
        "photo_files": _names(photos),
    }


def _digest(tensors: Iterable[Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _names(photos: PhotoFolder) -> str:
    """Tells folders of photographs apart by names and sizes: reading them all would take minutes."""
    files = [(path.name, path.stat().st_size) for path in photos.paths]
    return hashlib.blake2b(repr(files).encode(), digest_size=8).hexdigest()
