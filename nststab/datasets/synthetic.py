"""Synthetic clips: cut-outs of photographs moving over another photograph, with exact flow and occlusion."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.datasets.layers import FlowClip, Layer, affine, render_layers
from nststab.errors import NststabError

# Finer textures are shrunk first: sampling them bilinearly would alias, and aliasing flickers.
_TEXELS_PER_PIXEL = 1.4


@dataclass(frozen=True)
class SyntheticSettings:
    """The ranges from which a synthetic clip is drawn; speeds are peak values per frame.

    Camera and cut-outs move each by up to `speed`, `turn` and `zoom`, and the camera carries the cut-outs. At the
    default `turn` and `zoom` the flow inside a layer never changes so fast that it counts as a motion boundary.
    """

    length: int = 4
    height: int = 192
    width: int = 192
    cutouts: tuple[int, int] = (1, 3)
    speed: float = 1 / 32  # of the shorter side: 8 px at 256
    turn: float = 0.011  # radians
    zoom: float = 0.011  # natural logarithm of the scale
    still_clips: float = 0.25  # share of clips in which nothing moves
    still_layers: float = 0.4  # share of cameras and cut-outs at rest in the other clips
    noise: float = 0.03  # largest standard deviation
    clean_clips: float = 0.2  # share of clips without noise, and of clips without light changes
    light: float = 0.03  # largest change of gain; the offset changes by half as much

    def __post_init__(self) -> None:
        if self.length < 2 or self.height < 1 or self.width < 1:
            raise NststabError(
                "a clip needs two frames of one pixel or more, "
                f"got length {self.length}, height {self.height}, width {self.width}"
            )


def make_clip(photos: Sequence[Tensor], settings: SyntheticSettings, generator: torch.Generator) -> FlowClip:
    """Draw a clip (N = 1) from photographs (1, 3, H, W) of any sizes; the generator's state determines all of it.

    Noise and light act on the frames only: flow and mask belong to the scene. Raises ValueError without photographs.
    """
    if not photos:
        raise NststabError("expected at least one photograph to make a clip from, got none")
    clip = render_layers(_draw_layers(photos, settings, generator), settings.height, settings.width)
    frames = _add_noise(_change_light(clip.frames, settings, generator), settings, generator)
    return clip._replace(frames=frames.clamp(0, 1))


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """A uniform draw from [low, high)."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def draw_index(count: int, generator: torch.Generator) -> int:
    """A uniform draw from 0 ... count-1."""
    return int(torch.randint(count, (), generator=generator))


# Drawing: what there is and how it moves


def _draw_layers(photos: Sequence[Tensor], settings: SyntheticSettings, generator: torch.Generator) -> list[Layer]:
    """A background and cut-outs, carried by the camera and moving on their own."""
    low, high = settings.cutouts
    count = low + draw_index(high - low + 1, generator)
    order = torch.randperm(len(photos), generator=generator).tolist()
    still = uniform(0, 1, generator) < settings.still_clips
    centre = affine(1, 1, (settings.width - 1) / 2, (settings.height - 1) / 2)
    camera = centre @ _draw_motion(settings, still, generator)

    texture, placement = _draw_texture(photos[order[0]], settings, generator)
    layers = [Layer(texture, placement, None, camera)]
    for k in range(count):
        texture, placement = _draw_texture(photos[order[(k + 1) % len(order)]], settings, generator)
        place = affine(
            1,
            1,
            uniform(-0.45, 0.45, generator) * settings.width,
            uniform(-0.45, 0.45, generator) * settings.height,
        )
        poses = camera @ place @ _draw_motion(settings, still, generator)
        layers.append(Layer(texture, placement, _draw_outline(settings, generator), poses))
    return layers


def _draw_texture(photo: Tensor, settings: SyntheticSettings, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A photograph and its placement: a random view of the frame's size inside it, up to twice enlarged."""
    height, width = photo.shape[-2:]
    fit = min(height / settings.height, width / settings.width)
    density = fit * math.exp(uniform(math.log(0.48), math.log(0.96), generator))  # photo pixels per pixel
    texture = photo
    if density > _TEXELS_PER_PIXEL:
        shrink = _TEXELS_PER_PIXEL / density
        size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
        texture = F.interpolate(photo, size, mode="bilinear", antialias=True, align_corners=False)
    scale = density * texture.shape[-1] / width
    x, y = (
        (extent - 1) / 2 + uniform(-0.5, 0.5, generator) * max(0.0, extent - scale * view)
        for extent, view in ((texture.shape[-1], settings.width), (texture.shape[-2], settings.height))
    )
    return texture, affine(scale, scale, x, y)


def _draw_motion(settings: SyntheticSettings, still: bool, generator: torch.Generator) -> Tensor:
    """Pan, turn and zoom about the origin over time, (T, 3, 3); at rest in the clip's middle."""
    still = uniform(0, 1, generator) < settings.still_layers or still
    direction = uniform(0, 2 * math.pi, generator)
    # squared: slow motion is commoner than fast
    speed = uniform(0, 1, generator) ** 2 * settings.speed * min(settings.height, settings.width)
    peaks = (
        speed * math.cos(direction),
        speed * math.sin(direction),
        settings.turn * uniform(-1, 1, generator) ** 3,
        settings.zoom * uniform(-1, 1, generator) ** 3,
    )
    x, y, angle, zoom = (_draw_path(0.0 if still else peak, settings.length, generator) for peak in peaks)
    cosine, sine = zoom.exp() * angle.cos(), zoom.exp() * angle.sin()
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows = [torch.stack(row, -1) for row in ((cosine, -sine, x), (sine, cosine, y), (zero, zero, one))]
    return torch.stack(rows, 1)


def _draw_path(peak: float, length: int, generator: torch.Generator) -> Tensor:
    """A smooth value over time, (T,): a steady rate with a slow swing, which never exceeds `peak` per frame."""
    time = torch.arange(length, dtype=torch.float64) - (length - 1) / 2
    swing, pace, phase = uniform(0, 1, generator), uniform(0.2, 1.2, generator), uniform(0, 2 * math.pi, generator)
    return peak / (1 + swing) * (time + swing * ((pace * time + phase).sin() - math.sin(phase)) / pace)


def _draw_outline(settings: SyntheticSettings, generator: torch.Generator) -> Tensor:
    """A polygon of a few corners or a round blob, (K, 2), about 1/4 to 3/4 of the shorter side wide.

    Edges stay well away from the radial direction, where `_depth` would be a bad distance.
    """
    blob = uniform(0, 1, generator) < 0.5
    corners = 40 if blob else 4 + draw_index(7, generator)
    place = torch.arange(corners, dtype=torch.float64) + 0.5
    if blob:
        angle = place * (2 * math.pi / corners) - math.pi
        radius = torch.ones_like(angle)
        for wave in (2, 3, 4):
            radius += uniform(0, 0.35 / wave, generator) * (wave * angle + uniform(0, 2 * math.pi, generator)).cos()
    else:
        shift = torch.rand(corners, generator=generator, dtype=torch.float64) * 0.4 - 0.2
        angle = (place + shift) * (2 * math.pi / corners) - math.pi
        radius = torch.rand(corners, generator=generator, dtype=torch.float64) * 0.5 + 0.7
    size = uniform(0.12, 0.38, generator) * min(settings.height, settings.width)
    return torch.stack([angle.cos(), uniform(0.6, 1, generator) * angle.sin()], 1) * (size * radius)[:, None]


# What the camera adds


def _change_light(frames: Tensor, settings: SyntheticSettings, generator: torch.Generator) -> Tensor:
    """Small global changes of gain and offset over time: a smooth drift or an independent jitter."""
    if uniform(0, 1, generator) < settings.clean_clips:
        return frames
    drifts = uniform(0, 1, generator) < 0.5
    gain, offset = (_draw_light(amount, drifts, settings.length, generator) for amount in (1.0, 0.5))
    strength = uniform(0, settings.light, generator)
    gain, offset = ((strength * value).to(frames).view(1, -1, 1, 1, 1) for value in (gain, offset))
    return frames * (1 + gain) + offset


def _draw_light(amount: float, drifts: bool, length: int, generator: torch.Generator) -> Tensor:
    """Values within +-amount over time, (T,)."""
    if not drifts:
        return amount * (torch.rand(length, generator=generator) * 2 - 1)
    pace, phase = uniform(0.1, 1, generator), uniform(0, 2 * math.pi, generator)
    return amount * (pace * torch.arange(length) + phase).sin()


def _add_noise(frames: Tensor, settings: SyntheticSettings, generator: torch.Generator) -> Tensor:
    """Gaussian noise, new in every frame; in half of the clips correlated as after video compression."""
    if uniform(0, 1, generator) < settings.clean_clips:
        return frames
    deviation = uniform(0, settings.noise, generator)
    centre = uniform(0.4, 0.9, generator) if uniform(0, 1, generator) < 0.5 else 1.0
    noise = torch.randn(frames.shape[1:], generator=generator)
    if centre < 1:
        side = (1 - centre) / 2
        row = torch.tensor([side, centre, side])
        kernel = torch.outer(row, row)
        kernel /= kernel.norm()  # keeps the deviation
        padded = F.pad(noise, (1, 1, 1, 1), mode="replicate")
        noise = F.conv2d(padded.flatten(0, 1)[:, None], kernel[None, None]).view_as(noise)
    return frames + deviation * noise.to(frames)
