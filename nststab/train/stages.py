"""What the trainer trains: an image stage and a video stage (Gupta et al. 2017, sections 4 and 5)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nststab.datasets.folders import PhotoFolder, SintelClips
from nststab.datasets.layers import FlowClip
from nststab.datasets.synthetic import SyntheticSettings, make_clip
from nststab.losses import PerceptualLoss, temporal_loss
from nststab.networks.transformation import TransformationNetwork
from nststab.train.loop import Validation
from nststab.train.settings import TrainingSettings, VideoSettings


@dataclass(frozen=True, eq=False)
class ImageStage:
    """Photographs, content and style loss: Johnson et al. 2016.

    `held_out` (N, 3, H, W) are the pictures of the validation.
    """

    photos: PhotoFolder
    perceptual: PerceptualLoss
    settings: TrainingSettings
    device: torch.device
    held_out: Tensor

    def batch(self, generator: torch.Generator) -> Tensor:
        return self.photos.crops(self.settings.batch, self.settings.height, self.settings.width, generator)

    def loss(self, network: TransformationNetwork, batch: Tensor) -> dict[str, Tensor]:
        photos = batch.to(self.device)
        return self.perceptual(network(photos), self.perceptual.content_targets(photos))

    def validate(self, network: TransformationNetwork) -> Validation:
        terms, rows = [], []
        for photo in torch.split(self.held_out.to(self.device), 1):
            output = network(photo)
            terms.append(self.perceptual(output, self.perceptual.content_targets(photo)))
            rows.append([photo.cpu(), output.float().cpu()])
        return Validation(_mean(terms), rows)


@dataclass(frozen=True)
class VideoData:
    """Clips of the video stage: synthetic ones from photographs, mixed with Sintel's."""

    photos: PhotoFolder
    synthetic: SyntheticSettings
    sintel: SintelClips | None = None
    sintel_share: float = 0.0

    def clips(self, count: int, generator: torch.Generator) -> FlowClip:
        """`count` clips (N = count), determined by the generator."""
        return FlowClip(
            *(torch.cat(parts) for parts in zip(*(self._clip(generator) for _ in range(count)), strict=True))
        )

    def _clip(self, generator: torch.Generator) -> FlowClip:
        size = self.synthetic
        if self.sintel and float(torch.rand((), generator=generator)) < self.sintel_share:
            return self.sintel.clip(size.height, size.width, generator, size.length)
        indices = torch.randint(len(self.photos), (1 + size.cutouts[1],), generator=generator).tolist()
        return make_clip([self.photos.readable(index, generator) for index in indices], size, generator)


@dataclass(frozen=True, eq=False)
class VideoStage:
    """Clips, content, style and temporal loss, back-propagated through all the frames: Gupta et al. 2017, eq. (5)-(7).

    The recurrence p_t = f(p_{t-1}, c_t) is unrolled over the whole clip, from p_0 = 0, and nothing is detached: the
    temporal loss of a late frame reaches the first one. Content and style are means over frames, temporal over the
    pairs that have flow.
    """

    data: VideoData
    perceptual: PerceptualLoss
    settings: VideoSettings
    device: torch.device
    held_out: FlowClip

    def batch(self, generator: torch.Generator) -> FlowClip:
        return self.data.clips(self.settings.batch, generator)

    def loss(self, network: TransformationNetwork, batch: FlowClip) -> dict[str, Tensor]:
        return self._unrolled(network, batch)[0]

    def validate(self, network: TransformationNetwork) -> Validation:
        terms, rows = [], []
        for index in range(len(self.held_out.frames)):
            clip = FlowClip(*(part[index : index + 1] for part in self.held_out))
            term, drawn = self._unrolled(network, clip)
            terms.append(term)
            rows.append([*torch.split(clip.frames[0], 1), *torch.split(drawn[0].float().cpu(), 1)])
        return Validation(_mean(terms), rows)

    def _unrolled(self, network: TransformationNetwork, clip: FlowClip) -> tuple[dict[str, Tensor], Tensor]:
        """The terms, and what was drawn (N, T, 3, H, W)."""
        frames, forward, mask = (part.to(self.device) for part in clip)  # (N, T, 3, H, W), (N, T-1, 2 | 1, H, W)
        stacked = unrolled(network, frames)
        terms = self.perceptual(stacked.flatten(0, 1), self.perceptual.content_targets(frames.flatten(0, 1)))
        pairs = (stacked[:, 1:], stacked[:, :-1], forward, mask)
        change = temporal_loss(*(part.flatten(0, 1) for part in pairs))
        with_flow = mask.flatten(2).any(dim=2).float().mean().clamp_min(0.01)  # of Sintel's pairs not every one has
        return terms | {"temporal": self.settings.temporal_weight * change / with_flow}, stacked


def unrolled(network: nn.Module, frames: Tensor, style: Tensor | None = None) -> Tensor:
    """What a recurrent network draws of clips (N, T, 3, H, W) from p_0 = 0 on, of the same shape, nothing detached."""
    drawn: list[Tensor] = []
    for frame in frames.unbind(1):
        drawn.append(network(frame, drawn[-1] if drawn else None, style))
    return torch.stack(drawn, dim=1)


def _mean(terms: list[dict[str, Tensor]]) -> dict[str, float]:
    return {name: sum(float(term[name]) for term in terms) / len(terms) for name in terms[0]}
