"""Faces that are left as they are: found, followed, and without a jump."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nststab.frames import Frame
from nststab.methods.faces import Box, Faces, Gray, followed, overlap, without_faces


def texture(height: int = 96, width: int = 128) -> Tensor:
    noise = torch.rand(1, 1, height // 4, width // 4, generator=torch.Generator().manual_seed(0))
    return F.interpolate(noise, (height, width), mode="bicubic", align_corners=False).clamp(0, 1)


def gray(picture: Tensor) -> Gray:
    return np.asarray((255 * picture[0, 0]).round().byte().numpy())


def turned(picture: Tensor, angle: float) -> Tensor:
    """Around its middle, by so many degrees."""
    height, width = picture.shape[-2:]
    cos, sin = float(np.cos(np.radians(angle))), float(np.sin(np.radians(angle)))
    matrix = torch.tensor([[[cos, -sin * height / width, 0], [sin * width / height, cos, 0]]])
    grid = F.affine_grid(matrix, list(picture.shape), align_corners=False)
    return F.grid_sample(picture, grid, padding_mode="border", align_corners=False)


def sees(*boxes: Box) -> Callable[[Gray], Sequence[Box]]:
    """A detector that finds these in the first picture, and then nothing."""
    left = [boxes]
    return lambda _: left.pop() if left else ()


def test_the_overlap_of_boxes() -> None:
    assert overlap((0, 0, 2, 2), (1, 0, 2, 2)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 2, 2), (0, 0, 2, 2)) == 1
    assert overlap((0, 0, 2, 2), (5, 5, 2, 2)) == 0


def test_a_box_follows_what_is_in_it() -> None:
    picture = texture()
    moved = torch.roll(picture, (3, 5), dims=(2, 3))
    assert followed(gray(picture), gray(moved), (40, 30, 40, 40)) == pytest.approx((45, 33, 40, 40), abs=0.2)
    larger = F.interpolate(picture, scale_factor=1.25, mode="bicubic", align_corners=False).clamp(0, 1)
    cut = larger[..., 12:108, 16:144]  # about its middle, (64, 48)
    assert followed(gray(picture), gray(cut), (44, 28, 40, 40)) == pytest.approx((39, 23, 50, 50), abs=1)
    flat = np.zeros((96, 128), np.uint8)
    assert followed(flat, flat, (40, 30, 40, 40)) == (40, 30, 40, 40)


def test_a_face_outlives_as_many_searches_as_found_it_and_fades() -> None:
    picture, box = gray(texture()), (40.0, 30.0, 40.0, 40.0)
    found = [[box], [box], [], [], []]
    faces = Faces(lambda _: found.pop(0))
    shown = []
    for _ in range(5):
        faces.see(picture)
        shown.append(float(faces.mask((96, 128))[0, 0, 50, 60]))
    assert shown == pytest.approx([1, 1, 1, 7 / 8, 6 / 8])


def test_what_is_found_later_is_left_out_little_by_little_and_an_error_hardly_at_all() -> None:
    picture, box = gray(texture()), (40.0, 30.0, 40.0, 40.0)
    faces = Faces(sees())
    faces.see(picture)
    faces._find = lambda _: [box]
    shown = []
    for _ in range(9):
        faces.see(picture)
        shown.append(float(faces.mask((96, 128))[0, 0, 50, 60]))
    assert shown == pytest.approx([*(step / 8 for step in range(1, 9)), 1])
    once = Faces(sees())
    once.see(picture)
    once._find = sees(box)
    masks = []
    for _ in range(3):
        once.see(picture)
        masks.append(float(once.mask((96, 128)).max()))
    assert masks == pytest.approx([1 / 8, 0, 0])


def test_a_face_that_turns_is_followed_and_its_mask_does_not_jump() -> None:
    """The detector finds none that is turned by more than some 20 degrees."""
    data = pytest.importorskip("skimage.data")
    face = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None, :, :220, 110:330] / 255
    angles = [0.0] * 20 + [3.0 * number for number in range(20)]
    masks = [one.mask for one in without_faces(Frame(turned(face, angle)) for angle in angles)]
    (alone,) = without_faces([Frame(turned(face, angles[-1]))])
    assert alone.mask is not None
    assert bool((alone.mask == 1).all())
    for before, mask in zip([masks[0], *masks], masks, strict=False):
        assert before is not None
        assert mask is not None
        assert mask[0, 0, 110, 110] < 0.05  # the middle, her nose
        assert (mask - before).abs().mean() < 0.02


def test_without_a_face_all_is_painted() -> None:
    empty = Frame(torch.zeros(1, 3, 64, 64))
    *_, later = without_faces([empty, empty])
    assert later.mask is not None
    assert bool((later.mask == 1).all())
