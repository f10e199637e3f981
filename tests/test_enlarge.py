"""A working size apart from the output's."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import nststab
from nststab.color import luminance
from nststab.errors import SettingError
from nststab.frames import Frame
from nststab.methods.enlarge import Enlarged, enlarge
from nststab.tasks.settings import StylizeSettings
from nststab.video.images import read_opaque, resize, write_picture


def _edge(size: int) -> torch.Tensor:
    """White to the right of a slanting line, black to the left of it."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return (columns > size / 2 + rows / 7 - 5).float().expand(1, 3, -1, -1).contiguous()


def test_an_edge_of_the_input_is_crisp_and_has_no_halo() -> None:
    content = _edge(96)
    small = resize(content, 32)
    painted = 0.3 + 0.4 * small  # black and white in the style's own levels
    made, plain = enlarge(painted, small, content), resize(painted, 96)
    wanted = 0.3 + 0.4 * content
    inner = (..., slice(8, -8), slice(8, -8))
    assert made[inner].min() >= 0.3 - 0.02
    assert made[inner].max() <= 0.7 + 0.02
    error, before = ((one - wanted)[inner].square().mean() for one in (made, plain))
    assert error < 0.4 * before


def test_what_has_no_edge_stays_as_it_is() -> None:
    content = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    flat = torch.full((1, 3, 16, 24), 0.4)
    assert torch.allclose(enlarge(flat, resize(content, 24), content), torch.full((1, 3, 64, 96), 0.4), atol=1e-5)


def test_strokes_that_the_input_does_not_have_stay_large_and_get_an_edge() -> None:
    content = torch.full((1, 3, 96, 96), 0.5)
    stripes = (torch.arange(32) // 4 % 2).float().expand(1, 3, 32, 32)
    made, plain = enlarge(stripes, resize(content, 32), content), resize(stripes, 96)
    between = [(one * (1 - one)).mean() for one in (made, plain)]
    assert between[0] < 0.7 * between[1]
    assert torch.equal(made[..., 12:84:24] > 0.5, plain[..., 12:84:24] > 0.5)


def test_the_stylizer_sees_small_frames_and_gives_whole_ones() -> None:
    seen: list[tuple[int, ...]] = []

    def late(frames: Iterable[Frame]) -> Iterator[Frame]:  # as one that looks ahead
        waiting = []
        for frame in frames:
            seen.append(tuple(frame.rgb.shape[-2:]))
            waiting.append(frame)
        yield from waiting

    frames = [Frame(torch.rand(1, 3, 48, 64), number, alpha=torch.ones(1, 1, 48, 64)) for number in range(3)]
    made = list(Enlarged(late, 32)(frames))
    assert seen == [(24, 32)] * 3
    assert [frame.number for frame in made] == [0, 1, 2]
    assert made[0].alpha is frames[0].alpha
    assert {tuple(frame.rgb.shape) for frame in made} == {(1, 3, 48, 64)}


@pytest.mark.parametrize(("given", "longest", "side"), [(640, 1920, 640), (640, 320, 320), ("full", 3840, 3840)])
def test_nothing_is_enlarged_for_the_work(given: int | str, longest: int, side: int) -> None:
    assert StylizeSettings().with_text("work_size", str(given)).work_side(longest) == side


def test_a_word_stands_beside_numbers() -> None:
    assert StylizeSettings(work_size="full").identity()["work_size"] == "full"
    with pytest.raises(SettingError, match=r"work_size: expected a whole number, got 'half'"):
        StylizeSettings(work_size="half")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="expected the longest side in pixels, got 'half'"):
        StylizeSettings().with_text("work_size", "half")


def _paint(frames: Iterable[Frame]) -> Iterator[Frame]:
    yield from (frame.with_rgb(1 - frame.rgb) for frame in frames)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    write_picture(tmp_path / "photo.png", _edge(96))
    return tmp_path / "photo.png"


def test_a_picture_keeps_its_size_and_the_method_sees_less(photo: Path, tmp_path: Path) -> None:
    sizes: list[int] = []

    def paint(frames: Iterable[Frame]) -> Iterator[Frame]:
        for frame in frames:
            sizes.append(max(frame.rgb.shape))
            yield frame.with_rgb(1 - frame.rgb)

    made = nststab.stylize(photo, tmp_path / "out.png", stylizer=paint, work_size=32)
    assert (made.width, made.height, sizes) == (96, 96, [32])
    assert read_opaque(tmp_path / "out.png").shape == (1, 3, 96, 96)
    nststab.stylize(photo, tmp_path / "full.png", stylizer=paint, work_size="full")
    assert sizes == [32, 96]


def test_a_painter_works_at_its_size() -> None:
    frame = (np.random.default_rng(0).random((48, 64, 3)) * 255).astype(np.uint8)
    make: Callable[[object], nststab.Painter] = lambda size: nststab.Painter("mosaic", "independent", work_size=size)  # type: ignore[arg-type]  # noqa: E731
    small, full, as_it_is = (make(size)(frame) for size in (32, "full", 640))
    assert small.shape == full.shape == frame.shape
    assert not np.array_equal(small, full)
    assert np.array_equal(full, as_it_is)


def test_strips_make_no_difference(generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    content = torch.rand(1, 3, 90, 160, generator=generator)
    small = resize(content, 40)
    whole = enlarge(1 - small, small, content)
    monkeypatch.setattr("nststab.methods.enlarge._STRIP", 1600)
    assert torch.equal(enlarge(1 - small, small, content), whole)


def _plainly(stylized: torch.Tensor, small: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
    """`enlarge` as its docstring writes it, of whole pictures by torch's own functions."""

    def scaled(image: torch.Tensor, mode: str) -> torch.Tensor:
        return F.interpolate(image, tuple(content.shape[-2:]), mode=mode, antialias=True, align_corners=False)

    def mean(image: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(image, 5, 1, 2, count_include_pad=False)

    light, radius = luminance(small), round(2 / 3 * max(content.shape) / max(small.shape))
    covariance = mean(light * stylized) - mean(light) * mean(stylized)
    gain = mean(covariance / (mean(light.square()) - mean(light).square() + 1e-2))
    lost = luminance(content) - scaled(light, "bicubic")
    large = (scaled(stylized, "bicubic") + scaled(gain, "bilinear") * lost).clamp(0, 1)
    padded = F.pad(large, (radius,) * 4, mode="replicate")
    means, squares = (F.avg_pool2d(one, radius + 1, 1) for one in (padded, luminance(padded).square()))
    weights = ((squares - luminance(means).square()).clamp_min(0) + 1e-4) ** -2
    corners = [
        (..., slice(top, top + content.shape[2]), slice(left, left + content.shape[3]))
        for top in (0, radius)
        for left in (0, radius)
    ]
    total: torch.Tensor = sum((weights[at] for at in corners), torch.zeros(()))
    return sum((means[at] * weights[at] for at in corners), torch.zeros(())) / total


@pytest.mark.parametrize("side", [37, 61, 90])
def test_it_is_interpolation_and_edges_and_strokes_computed_faster(side: int, generator: torch.Generator) -> None:
    content = torch.rand(1, 3, 91, 160, generator=generator)
    small = resize(content, side)
    stylized = torch.rand(small.shape, generator=generator)
    assert torch.allclose(enlarge(stylized, small, content), _plainly(stylized, small, content), atol=2e-4)
