"""Masks: what is stylized, and the style of each region."""

import weakref
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

import nststab
from nststab.errors import NststabError, SettingError
from nststab.frames import Frame, Stylizer
from nststab.losses import LossSettings, PerceptualLoss, gram, regional_grams, style_target
from nststab.methods.faces import without_faces
from nststab.methods.regions import Blended, Masked, shares
from nststab.tasks.settings import StylizeSettings
from nststab.tasks.stylize import opened, with_masks
from nststab.vgg import PerceptualNetwork
from nststab.video.images import read_opaque, write_picture
from tests.conftest import save_clip, save_frames


def halves(height: int = 32, width: int = 48) -> Tensor:
    """White on the left."""
    return (torch.arange(width) < width // 2).float().expand(1, 1, height, width).contiguous()


def painting(value: float) -> Stylizer:
    def paint(frames: Iterable[Frame]) -> Iterator[Frame]:
        yield from (frame.with_rgb(torch.full_like(frame.rgb, value)) for frame in frames)

    return paint


def test_the_gram_matrix_of_a_region_is_that_of_its_pixels() -> None:
    features = torch.tensor([[[[1.0, 3.0]], [[2.0, 0.0]]]])  # two pixels of two channels: (1, 2) and (3, 0)
    regions = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    grams, parts = regional_grams(features, regions)
    assert torch.equal(grams, torch.tensor([[[0.5, 1.0], [1.0, 2.0]], [[4.5, 0.0], [0.0, 0.0]]]))
    assert parts.tolist() == [0.5, 0.5]
    half, part = regional_grams(features, torch.tensor([[[[0.5, 0.5]]]]))  # gray all over: the same matrix, less of it
    assert torch.allclose(half, gram(features))
    assert part.tolist() == [0.25]


def test_a_loss_of_one_region_is_that_of_the_whole_picture(
    tiny_vgg: PerceptualNetwork, generator: torch.Generator
) -> None:
    style, picture, other = (torch.rand(1, 3, 32, 32, generator=generator) for _ in range(3))
    settings = LossSettings()
    target = style_target(tiny_vgg, style, settings.style_layers)
    loss = PerceptualLoss(tiny_vgg, target, settings)
    content = loss.content_targets(other)
    plain = loss(picture, content)
    assert torch.allclose(loss(picture, content, torch.ones(1, 1, 32, 32))["style"], plain["style"])
    assert loss(picture, content, torch.zeros(1, 1, 32, 32))["style"] == 0
    two = PerceptualLoss(tiny_vgg, [target, target], settings)
    assert torch.allclose(two(picture, content)["style"], plain["style"])
    both = two(picture, content, torch.cat([halves(32, 32), 1 - halves(32, 32)], 1))["style"]
    parts = [loss(picture, content, half)["style"] for half in (halves(32, 32), 1 - halves(32, 32))]
    assert torch.allclose(both, parts[0] + parts[1])


def test_shares_sum_to_one_where_there_is_a_rest() -> None:
    left, all_over = halves(), torch.ones(1, 1, 32, 48)
    found = shares([left, all_over])
    assert found.shape == (1, 3, 32, 48)
    assert found[0, :, 16, 2].tolist() == [0.0, 0.5, 0.5]  # two overlap
    assert found[0, :, 16, 40].tolist() == [0.0, 0.0, 1.0]
    assert torch.allclose(shares([left]).sum(dim=1), torch.ones(1, 32, 48))
    assert shares([left], has_rest=False)[0, :, 16, 40].tolist() == [0.0]
    assert shares([], 0.5 * all_over)[0, :, 16, 40].tolist() == [0.5]
    assert len(set(shares([], left)[0, 0, 16, 20:28].tolist())) > 3  # feathered


def test_each_region_has_its_style_and_the_rest_is_the_input_to_the_bit() -> None:
    frame = Frame(torch.rand(1, 3, 32, 48), mask=halves())
    both = Blended((painting(0.25), painting(0.75)))
    (made,) = Masked(both, has_mask=False)([frame])
    assert torch.allclose(made.rgb[..., :20], torch.tensor(0.75))
    assert torch.allclose(made.rgb[..., 28:], torch.tensor(0.25))
    (made,) = Masked(painting(0.25))([frame])
    assert torch.equal(made.rgb[..., 28:], frame.rgb[..., 28:])
    assert torch.allclose(made.rgb[..., :20], torch.tensor(0.25))
    with pytest.raises(NststabError, match="expected a mask for each of 2 styles, got 1"):
        list(both([frame]))


def test_a_face_is_left_as_it_is() -> None:
    data = pytest.importorskip("skimage.data")
    face = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None] / 255
    (frame,) = without_faces([Frame(face)])
    assert frame.mask is not None
    assert frame.mask[0, 0, 110, 220] < 0.05  # her nose
    assert frame.mask[0, 0, 400:, :].min() == 1  # the suit


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_picture(Path("photo.png"), torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0)))
    write_picture(Path("left.png"), halves().expand(-1, 3, -1, -1))
    write_picture(Path("wide.png"), torch.ones(1, 3, 8, 48))
    write_picture(Path("painting.png"), torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    save_frames("clip", torch.rand(3, 3, 32, 48), "{}.png")
    save_frames("few", [halves().expand(-1, 3, -1, -1)] * 2, "{}.png")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("method", ["independent", "gatys"])
def test_files_say_where_and_what(method: str) -> None:
    settings = StylizeSettings().with_text("gatys.iterations", "5") if method == "gatys" else StylizeSettings()
    photo = read_opaque(Path("photo.png"))

    def made(style: str | tuple[str, ...] = "mosaic", **given: object) -> Tensor:
        nststab.stylize(
            "photo.png",
            "out.png",
            style=style,
            method=method,
            overwrite=True,
            settings=settings.changed(**given),
        )
        return read_opaque(Path("out.png"))

    masked = made(mask=Path("left.png"))
    assert torch.equal(masked[..., 28:], photo[..., 28:])
    assert (masked - photo)[..., :20].abs().mean() > 0.01
    regions = made(mask_styles=("starry_night=left.png",))
    assert (regions - photo)[..., 28:].abs().mean() > 0.01
    other = made(style=(), mask_styles=("starry_night=left.png",))
    assert torch.equal(other[..., 28:], photo[..., 28:])


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"mask": Path("few/")}, NststabError, "few: expected a mask for each frame of clip, and it ends before"),
        ({"mask": Path("wide.png")}, SettingError, "the mask wide.png has another shape than clip, 48x8 and 48x32"),
        ({"mask": Path("none.png")}, OSError, "none.png"),
        ({"mask_styles": ("left.png",)}, SettingError, "mask_styles: 'left.png': expected STYLE=MASK"),
        ({"mask_styles": ("mosaik=left.png",)}, SettingError, "did you mean mosaic"),
    ],
)
def test_a_mask_that_cannot_be_is_named(given: dict[str, object], error: type[Exception], message: str) -> None:
    settings = StylizeSettings().changed(**given)
    with pytest.raises(error, match=message):
        nststab.stylize("clip", "out/", style="mosaic", settings=settings)


@pytest.mark.usefixtures("files")
def test_masks_without_times_are_those_of_the_frames_that_come_out() -> None:
    film, settings = save_clip(Path("film.mp4"), torch.rand(20, 1, 3, 32, 48)), StylizeSettings(fps=Fraction(5))
    with pytest.raises(SettingError, match="the masks of few: with fps expected one for each of the 4 frames"):
        nststab.stylize(film, "out/", style="mosaic", settings=settings.changed(mask=Path("few")))
    levels = [0.0, 0.2, 0.4, 0.6]
    save_frames("four", [torch.full((1, 3, 32, 48), level) for level in levels])
    save_clip(Path("masks.mp4"), [torch.full((1, 3, 32, 48), 0.2 * (number // 5)) for number in range(20)])
    for mask in ("four", "masks.mp4"):
        clip = with_masks(opened(film, settings), settings.changed(mask=Path(mask)))
        means = [float(frame.mask.mean()) for frame in clip.frames() if frame.mask is not None]
        assert means == pytest.approx(levels, abs=0.02)


@pytest.mark.parametrize("stylizer", [Masked(painting(0.5)), Blended((painting(0.2), painting(0.8)))])
def test_memory_does_not_grow_with_the_clip(stylizer: Stylizer) -> None:
    held: list[weakref.ref[Tensor]] = []

    def frames() -> Iterator[Frame]:
        for number in range(40):
            rgb = torch.zeros(1, 3, 8, 8)
            held.append(weakref.ref(rgb))
            yield Frame(rgb, number)

    assert max(sum(one() is not None for one in held) for _ in stylizer(frames())) <= 3
