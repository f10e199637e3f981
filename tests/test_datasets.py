"""Photo folders, a fabricated MPI Sintel tree with known flow, and a fabricated DAVIS tree."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nststab.datasets.folders import DavisSequence, PhotoFolder, SintelClips
from nststab.flow.files import write_flo
from nststab.video.images import write_picture
from nststab.warp import warp


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def save(path: Path, picture: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(path, picture)


def ramps(height: int, width: int) -> Tensor:
    """Red grows to the right, green downwards, both by one level of 1/200 a pixel."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x / 200, y / 200, torch.zeros_like(x)])[None]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for index, size in enumerate(((60, 90), (90, 60), (50, 70))):
        save(folder / f"{index}.png", ramps(*size))
    save(folder / "deeper" / "LAST.PNG", ramps(40, 40))
    save(folder / ".hidden.png", ramps(8, 8))
    (folder / "notes.txt").write_text("no picture")
    return folder


# Photographs


def test_photo_folder_finds_the_pictures_in_order(photos: Path) -> None:
    folder = PhotoFolder(photos)
    assert [path.name for path in folder.paths] == ["0.png", "1.png", "2.png", "LAST.PNG"]
    assert len(folder) == 4
    torch.testing.assert_close(folder.photo(0), ramps(60, 90), atol=0.003, rtol=0)


def test_crops_vary_in_place_scale_and_direction_but_not_in_shape(photos: Path) -> None:
    crops = PhotoFolder(photos).crops(60, 24, 32, seeded(0))
    assert crops.shape == (60, 3, 24, 32)
    right = 200 * (crops[:, 0, 12, 24] - crops[:, 0, 12, 8]) / 16  # photo pixels per pixel
    down = 200 * (crops[:, 1, 18, 16] - crops[:, 1, 6, 16]) / 12
    assert (down > 0).all()  # never upside down
    torch.testing.assert_close(right.abs(), down, atol=0.08, rtol=0)  # keeps the aspect
    assert 15 < (right < 0).sum() < 45  # half of them mirrored
    assert down.min() > 0.95  # never enlarged without need
    assert down.min() < 1.1
    assert 2.1 < down.max() < 2.6  # up to the whole photograph: 2.5 times for the second photograph and 24 rows
    assert crops[:, :2].mean((2, 3)).std(0).min() > 0.01


def test_a_photograph_smaller_than_the_crop_is_enlarged_to_fit(photos: Path) -> None:
    crop = PhotoFolder(photos / "deeper").crops(1, 64, 80, seeded(0))
    assert crop.shape == (1, 3, 64, 80)
    slope = 200 * (crop[0, 0, 32, 60] - crop[0, 0, 32, 20]).abs() / 40
    assert slope.item() == pytest.approx(0.5, abs=0.02)


def test_the_generator_determines_the_crops(photos: Path) -> None:
    folder = PhotoFolder(photos)
    first, again, other = (folder.crops(4, 16, 16, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_center_crops_show_each_photograph_whole_and_centred(photos: Path) -> None:
    crops = PhotoFolder(photos).center_crops(20, 20)
    assert crops.shape == (4, 3, 20, 20)
    middle = 200 * crops.mean((2, 3))[:, :2]  # the mean of a ramp is its middle
    expected = torch.tensor([[44.5, 29.5], [29.5, 44.5], [34.5, 24.5], [19.5, 19.5]])
    torch.testing.assert_close(middle, expected, atol=0.6, rtol=0)


def test_hold_out_splits_without_overlap(photos: Path) -> None:
    folder = PhotoFolder(photos)
    training, held_out = folder.hold_out(1)
    assert (len(training), len(held_out)) == (3, 1)
    assert sorted(training.paths + held_out.paths) == folder.paths
    assert [len(part) for part in folder.hold_out()] == [2, 2]
    assert len(folder) == 4
    with pytest.raises(ValueError, match="two photographs"):
        PhotoFolder(photos / "deeper").hold_out()


def test_no_photographs_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no pictures"):
        PhotoFolder(tmp_path / "empty")
    with pytest.raises(ValueError, match="nowhere"):
        PhotoFolder(tmp_path / "nowhere")


def test_photographs_that_cannot_be_read_are_named_once_and_left_out(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = PhotoFolder(photos).crops(40, 8, 8, seeded(0))
    (photos / "3.png").write_text("not a picture")
    folder = PhotoFolder(photos)
    crops = folder.crops(40, 8, 8, seeded(0))
    assert crops.shape == before.shape
    assert len(folder.center_crops(8, 8)) == 4
    assert [message.split(": expected")[0] for message in caplog.messages] == [f"left out: {photos / '3.png'}"]
    for path in folder.paths:
        path.write_text("not a picture")
    with pytest.raises(ValueError, match="no photograph can be read"):
        PhotoFolder(photos).crops(1, 8, 8, seeded(0))
    with pytest.raises(ValueError, match="no photograph can be read"):
        PhotoFolder(photos).center_crops(8, 8)


def test_what_is_no_photograph_is_named_at_once_when_some_are_held_out(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(7):
        (photos / f"text{number}.png").write_text("not a picture")
    (photos / "link.png").symlink_to("gone.png")
    training, held_out = PhotoFolder(photos).hold_out()
    (message,) = caplog.messages
    assert message.startswith(
        f"left out: {photos / 'link.png'}: leads nowhere; {photos / 'text0.png'}: expected a picture"
    )
    assert message.endswith("; and 3 others")
    assert len(training) + len(held_out) == 12
    assert training.crops(20, 8, 8, seeded(0)).shape == (20, 3, 8, 8)
    assert caplog.messages == [message]


def test_a_list_that_was_kept_keeps_the_steps_as_they_were(photos: Path, tmp_path: Path) -> None:
    before = PhotoFolder(photos)
    before.keep_list(tmp_path / "list.json")
    (photos / "00.png").write_bytes(before.paths[1].read_bytes())
    after = PhotoFolder(photos, tmp_path / "list.json")
    assert (after.paths, after.lengths) == (before.paths, before.lengths)
    assert torch.equal(after.crops(9, 8, 8, seeded(0)), before.crops(9, 8, 8, seeded(0)))
    others = PhotoFolder(photos / "deeper", tmp_path / "list.json")
    assert others.paths == PhotoFolder(photos / "deeper").paths


# MPI Sintel

HEIGHT, WIDTH = 40, 64
FLOW = (3.0, -2.0)
HOLE = (17, 33)  # the only occluded pixel


def scene(time: int) -> Tensor:
    """A smooth picture which moves by FLOW each frame."""
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    x, y = x - FLOW[0] * time, y - FLOW[1] * time
    waves = [torch.sin(x / 9 + 1), torch.sin(y / 8 + 2), torch.sin((x + y) / 11)]
    return (0.5 + 0.45 * torch.stack(waves))[None]


def add_sequence(root: Path, name: str, frames: list[int], flows: list[int], renders: tuple[str, ...]) -> None:
    for render in renders:
        for number in frames:
            save(root / render / name / f"frame_{number:04d}.png", scene(number) * (0.5 if render == "clean" else 1))
    for number in flows:
        (root / "flow" / name).mkdir(parents=True, exist_ok=True)
        flow = torch.tensor(FLOW).view(1, 2, 1, 1).expand(1, 2, HEIGHT, WIDTH)
        write_flo(root / "flow" / name / f"frame_{number:04d}.flo", flow)
        occluded = torch.zeros(1, 3, HEIGHT, WIDTH)
        occluded[..., HOLE[0], HOLE[1]] = 1
        save(root / "occlusions" / name / f"frame_{number:04d}.png", occluded)
        save(root / "invalid" / name / f"frame_{number:04d}.png", torch.zeros(1, 3, HEIGHT, WIDTH))


@pytest.fixture
def sintel(tmp_path: Path) -> Path:
    root = tmp_path / "MPI-Sintel"
    add_sequence(root / "training", "alley_1", [1, 2, 3, 4], [2], ("clean", "final"))
    return root


@pytest.mark.parametrize("size", [(20, 32), (40, 64), (24, 24), (13, 23), (52, 70)])
def test_sintel_flow_is_scaled_cut_and_flipped_with_the_frames(sintel: Path, size: tuple[int, int]) -> None:
    clips = SintelClips(sintel)
    directions = set()
    for seed in range(12):
        clip = clips.clip(*size, seeded(seed))
        assert clip.frames.shape == (1, 4, 3, *size)
        assert clip.forward.shape == (1, 3, 2, *size)
        assert clip.mask.shape == (1, 3, 1, *size)
        forward, mask = clip.forward[0, 1:2], clip.mask[0, 1:2]
        directions.add((forward[0, 0, 0, 0].item() > 0, forward[0, 1, 0, 0].item() > 0))
        x, y = forward[0].abs().flatten(1).mean(1).tolist()
        scale = max(size[0] / HEIGHT, size[1] / WIDTH)
        assert min(scale, 0.5) - 0.03 < x / 3 < max(scale, 0.5) + 0.03
        assert y / 2 == pytest.approx(x / 3, rel=0.06)
        for side, factor in zip(size, (y / 2, x / 3), strict=True):  # the cut has whole pixels
            assert side / factor == pytest.approx(round(side / factor), abs=1e-3)
        error = (warp(clip.frames[0, 2:3], forward) - clip.frames[0, 1:2]).abs()
        trusted = (mask > 0.99).expand_as(error)
        assert trusted.float().mean() > 0.4
        assert error[trusted].max() < 0.02
        assert not clip.mask[0, [0, 2]].any()
        assert not clip.forward[0, [0, 2]].any()
    assert len(directions) == 4  # both flips happen, and together


def test_one_bad_pixel_spoils_the_whole_pixel_it_becomes_part_of(sintel: Path) -> None:
    clips = SintelClips(sintel)
    for seed in range(6):
        clip = clips.clip(HEIGHT // 2, WIDTH // 2, seeded(seed))  # half the size: nothing is cut off
        forward, mask = clip.forward[0, 1], clip.mask[0, 1, 0]
        flips = [-1] * bool(forward[0, 0, 0] < 0) + [-2] * bool(forward[1, 0, 0] > 0)
        upright = mask.flip(flips)
        row, column = HOLE[0] // 2, HOLE[1] // 2
        assert upright[row, column] < 0.51  # all that is left of a lone -1 among ones
        assert upright[row, column - 1] < 0.8
        assert upright[row - 4, column] == 1


def test_invalid_pixels_and_motion_boundaries_are_not_trusted(sintel: Path) -> None:
    training = sintel / "training"
    invalid = torch.zeros(1, 3, HEIGHT, WIDTH)
    invalid[..., :, 20:24] = 1
    save(training / "invalid" / "alley_1" / "frame_0002.png", invalid)
    flow = torch.tensor(FLOW).view(1, 2, 1, 1).repeat(1, 1, HEIGHT, WIDTH)
    flow[:, 0, :, 44:] += 2
    write_flo(training / "flow" / "alley_1" / "frame_0002.flo", flow)
    clip = SintelClips(training).clip(HEIGHT // 2, WIDTH // 2, seeded(0))
    forward, mask = clip.forward[0, 1], clip.mask[0, 1, 0]
    columns = (mask.flip(-1) if forward[0, 0, 0] < 0 else mask)[3]  # far from HOLE
    assert not columns[10:12].any()
    assert columns[21:23].max() < 0.5
    assert columns[14:19].min() > 0.999


def test_sintel_passes_are_chosen(sintel: Path) -> None:
    def brightest(clips: SintelClips) -> set[bool]:
        return {clips.clip(20, 32, seeded(seed)).frames.max().item() > 0.6 for seed in range(8)}

    assert brightest(SintelClips(sintel, "final")) == {True}
    assert brightest(SintelClips(sintel, "clean")) == {False}
    assert brightest(SintelClips(sintel, "both")) == {True, False}
    assert [len(SintelClips(sintel, "final")), len(SintelClips(sintel, "both"))] == [1, 2]


def test_every_sintel_clip_has_a_pair_with_flow(sintel: Path) -> None:
    add_sequence(sintel / "training", "cave_4", [1, 2, 4, 5, 6, 7, 8], [2, 7], ("final",))  # frame 3 is missing
    clips = SintelClips(sintel)
    assert len(clips) == 2
    found = set()
    for seed in range(20):
        clip = clips.clip(20, 32, seeded(seed), length=3)
        found.add(tuple(bool(mask.any()) for mask in clip.mask[0]))
    assert found == {(True, False), (False, True)}


def test_the_generator_determines_the_sintel_clip(sintel: Path) -> None:
    clips = SintelClips(sintel, "both")
    first, again, other = (clips.clip(24, 24, seeded(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.frames, other.frames)


def _remove_occlusions(training: Path) -> None:
    (training / "occlusions" / "alley_1" / "frame_0002.png").unlink()


def _shrink_invalid(training: Path) -> None:
    save(training / "invalid" / "alley_1" / "frame_0002.png", torch.zeros(1, 3, 8, 8))
    save(training / "occlusions" / "alley_1" / "frame_0002.png", torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize(
    ("spoil", "message"), [(_remove_occlusions, r"frame_0002\.png"), (_shrink_invalid, "differ in size")]
)
def test_incomplete_sintel_is_an_error(sintel: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(sintel / "training")
    with pytest.raises((OSError, ValueError), match=message):
        SintelClips(sintel).clip(20, 32, seeded(0))


def test_sintel_without_pairs_or_long_runs_is_an_error(sintel: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected MPI Sintel"):
        SintelClips(tmp_path)
    with pytest.raises(ValueError, match="no 5 consecutive frames"):
        SintelClips(sintel).clip(20, 32, seeded(0), length=5)


# DAVIS


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    for number in range(3):
        save(tmp_path / "JPEGImages" / "480p" / "swan" / f"{number:05d}.jpg", torch.full((1, 3, 30, 60), 0.2 * number))
        mask = torch.zeros(1, 3, 30, 60)
        mask[:, :1, 3, 10 * number] = 1 / 255  # any value above 0 is foreground
        save(tmp_path / "Annotations" / "480p" / "swan" / f"{number:05d}.png", mask)
    return tmp_path


def test_davis_frames_and_foreground_come_in_order_and_scaled(davis: Path) -> None:
    sequence = DavisSequence(davis, "swan", 20)
    frames, masks = list(sequence.frames()), list(sequence.masks())
    assert len(sequence) == len(frames) == len(masks) == 3
    for number, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
        assert frame.shape == (1, 3, 10, 20)
        assert math.isclose(frame.mean().item(), 0.2 * number, abs_tol=0.01)
        assert mask.dtype == torch.bool
        assert mask.shape == (1, 1, 10, 20)
        assert mask.nonzero().tolist() == [[0, 0, 1, 10 * number // 3]]  # one pixel of nine is enough


def test_missing_davis_parts_are_named(davis: Path) -> None:
    with pytest.raises(ValueError, match=r"'goose'.*there is: swan"):
        DavisSequence(davis, "goose", 20)
    (davis / "Annotations" / "480p" / "swan" / "00001.png").unlink()
    with pytest.raises(ValueError, match=r"00001\.png is missing"):
        DavisSequence(davis, "swan", 20)
