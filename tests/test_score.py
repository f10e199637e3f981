"""The score's measures by known answers, the three cheats, and the checks that pair a clip with its original."""

import dataclasses
import gc
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nststab import metrics
from nststab.flow.estimators import FlowFunction
from nststab.flow.pairs import FlowPair
from nststab.frames import Frame, as_frames
from nststab.losses import LossSettings, PerceptualLoss, content_loss
from nststab.measure import stability
from nststab.measure.pairing import Counterparts, Pairing
from nststab.measure.score import ClipScore, ContentLoss, ScoreMeter, score
from nststab.measure.scores import ScoredClip, Scores, clip_ranks, standing
from nststab.measure.settings import ScoreSettings
from nststab.measure.stability import FrameLosses, perceptual_losses
from nststab.methods.feed_forward import FeedForward
from nststab.networks.checkpoints import load_checkpoint, load_target, read_tensors
from nststab.shots import split_shots
from nststab.styles.shipped import demo_clip, find_style, perceptual_weights
from nststab.vgg import PerceptualNetwork
from nststab.video.clip import Clip, convert_clip, open_clip
from tests.conftest import save_frames, stylized, texture

Clips = Sequence[Sequence[Tensor]]
textured = partial(texture, cells=(12, 30))


def panning(count: int, step: int = 1, height: int = 40, width: int = 56, seed: int = 0) -> list[Tensor]:
    """A camera that pans by `step` pixels a frame."""
    scene = textured(height, width + step * count, seed)
    return [scene[..., step * t : step * t + width].clone() for t in range(count)]


def noisy(frames: Iterable[Tensor], sigma: float, seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [frame * 0.4 + 0.3 + sigma * torch.randn(frame.shape, generator=generator) for frame in frames]


def flow_of_pan(step: int = 1) -> FlowFunction:
    """The exact flow between frames of `panning`."""

    def flow(first: Frame, second: Frame) -> Tensor:
        moved = no_flow(first, second)
        moved[:, 0] = step * (first.number - second.number)
        return moved

    return flow


def no_flow(first: Frame, _second: Frame) -> Tensor:
    return torch.zeros(1, 2, *first.rgb.shape[-2:])


def scores(
    frames: Sequence[Tensor],
    clips: Clips,
    flow: FlowFunction,
    settings: ScoreSettings | None = None,
    losses: FrameLosses | None = None,
    shots: Iterable[Iterable[Frame]] | None = None,
    masks: Sequence[Tensor] | None = None,
) -> list[ClipScore]:
    """The original's own score and one for each clip."""
    meter = ScoreMeter(len(clips), settings or ScoreSettings(), losses)
    made = (Counterparts([clip[t] for clip in clips], masks[t] if masks else None) for t in range(len(frames)))
    done = list(score(shots or [as_frames(frames)], lambda _: next(made), meter, flow))
    assert done == list(range(1, len(frames) + 1))
    return meter.result()


def test_an_unchanged_clip_scores_perfectly() -> None:
    frames = panning(8)
    own, copy = scores(frames, [frames], flow_of_pan(), losses=lambda *_: {"content": 0.0, "style": 1.0})
    known = {name: value for name, value in copy.as_row().items() if name != "flicker"}  # nothing stands still
    assert known == {name: value for name, value in own.as_row().items() if name != "flicker"}
    assert copy.stability.psnr > 90
    assert copy.warp_errors == {1: 0.0, 5: 0.0}
    still = [frames[0]] * 8
    _, unmoved = scores(still, [still], no_flow)
    row = unmoved.as_row()
    assert (row["psnr"], row["ssim"], row["flicker"], row["warp_error"]) == (metrics.PSNR_CAP, 1, 0, 0)
    assert row["drift"] == pytest.approx(0, abs=1e-12)


def moving_square(count: int, step: int = 2) -> tuple[list[Tensor], FlowFunction]:
    """A textured square over a textured background that stands still, with its exact flow."""
    behind, square = textured(40, 56, 1), textured(16, 16, 2)
    frames = [behind.clone() for _ in range(count)]
    for t, frame in enumerate(frames):
        frame[..., 12:28, 4 + step * t : 20 + step * t] = square

    def flow(first: Frame, second: Frame) -> Tensor:
        start, end = first.number, second.number
        moved = torch.zeros(1, 2, 40, 56)
        moved[:, 0, 12:28, 4 + step * start : 20 + step * start] = step * (end - start)
        return moved

    return frames, flow


def test_known_motion_with_exact_flow_has_no_warping_error_where_it_is_trusted() -> None:
    frames, flow = moving_square(9)
    inverted = [1 - frame for frame in frames]
    own, made = scores(frames, [inverted], flow, ScoreSettings(gaps=(1, 2, 5)))
    assert own.warp_errors == made.warp_errors == {1: 0, 2: 0, 5: 0}
    assert own.trusted == made.trusted
    assert 0.5 < made.trusted[5] < made.trusted[1] < 1  # what the square hides or lays bare is not
    wrong = scores(frames, [inverted], no_flow)[1]
    assert wrong.warp_errors[1] > 1e-3


def test_noise_gives_the_error_that_its_variance_says() -> None:
    frames = panning(12)
    _, made = scores(frames, [noisy(frames, 0.05)], flow_of_pan())
    for gap in (1, 5):
        assert made.warp_errors[gap] == pytest.approx(2 * 0.05**2, rel=0.03)
    still = [frames[0]] * 12
    _, made = scores(still, [noisy(still, 0.02)], no_flow)
    assert made.as_row()["flicker"] == pytest.approx(255 * 2 * 0.02 / math.sqrt(math.pi), rel=0.02)


def test_the_warping_error_is_that_of_all_trusted_pixels() -> None:
    """A pair with few of them counts little, one with none nothing."""
    still, frame = torch.zeros(1, 2, 40, 56), torch.zeros(1, 3, 40, 56)
    meter = ScoreMeter(1, ScoreSettings(gaps=(1,)))
    meter.start_shot()
    meter.update(frame, [frame], {})
    for level, rows in ((0.1, 30), (0.4, 10), (0.9, 0)):
        mask = torch.zeros(1, 1, 40, 56)
        mask[..., :rows, :] = 1
        meter.update(frame, [frame + level], {1: FlowPair(still, still, mask, mask)})
    made = meter.result()[1]
    assert made.warp_errors[1] == pytest.approx((30 * 0.1**2 + 10 * 0.3**2) / 40)
    assert made.trusted[1] == pytest.approx(1 / 3)


def test_a_planted_ramp_is_found_as_drift_with_its_slope() -> None:
    frames = panning(10)
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    brighter = [frame * 0.5 + 0.004 * t for t, frame in enumerate(frames)]
    less_red = [torch.full_like(frame, 0.5) - 0.002 * t * red for t, frame in enumerate(frames)]
    own, first, second = scores(frames, [brighter, less_red], flow_of_pan())
    before = metrics.drift_slopes(torch.stack([frame.double().mean((0, 2, 3)) for frame in frames]))
    assert own.slopes == pytest.approx(before)
    assert first.slopes == pytest.approx([255 * 0.004 + slope / 2 for slope in before], rel=1e-4)
    assert second.slopes == pytest.approx([-255 * 0.002 * metrics.REC709[0], -255 * 0.002, 0, 0], abs=1e-4)
    assert second.as_row()["drift"] == pytest.approx(0.51, rel=1e-3)


def test_the_drift_of_several_shots_is_their_common_slope() -> None:
    """As a regression with a level for each shot finds it."""
    generator = np.random.default_rng(0)
    lengths = (3, 8, 1, 5)
    levels = generator.uniform(0, 1, sum(lengths))
    meter = ScoreMeter(0, ScoreSettings(patches=1))
    place = iter(levels)
    for length in lengths:
        meter.start_shot()
        for _ in range(length):
            meter.update(torch.full((1, 3, 8, 8), float(next(place))), [], {})
    time = np.concatenate([np.arange(length) for length in lengths])
    shot = np.repeat(np.arange(len(lengths)), lengths)
    design = np.column_stack([time, *(shot == number for number in range(len(lengths)))])
    expected = np.linalg.lstsq(design.astype(float), 255 * levels, rcond=None)[0][0]
    assert meter.result()[0].slopes.red == pytest.approx(expected, rel=1e-5)


def test_losses_are_those_of_the_second_and_every_fifth_frame() -> None:
    frames = panning(12)
    own, made = scores(
        frames,
        [[torch.full_like(frame, t / 20) for t, frame in enumerate(frames)]],
        flow_of_pan(),
        losses=lambda frame, content: {"content": float((frame - content).abs().max()), "style": float(frame.mean())},
    )
    assert made.stability.curves.losses["style"] == pytest.approx([1 / 20, 6 / 20, 11 / 20])
    assert made.as_row()["style_loss"] == pytest.approx(6 / 20)
    assert own.as_row()["content_loss"] == 0 < made.as_row()["content_loss"]


def test_no_figure_spans_a_cut() -> None:
    """Else the change of the picture would be an error, its light a drift, and flow be sought between two scenes."""
    dark = [0.4 * frame for frame in panning(7)]
    light = [0.4 * frame + 0.5 for frame in panning(8, seed=5)]
    frames = [*dark, *light]

    def flow(first: Frame, second: Frame) -> Tensor:
        assert (first.number < 7) == (second.number < 7)
        return flow_of_pan()(first, second)

    ramp = [frame + 0.002 * (t % 7) for t, frame in enumerate(frames)]
    ramp[-1] = frames[-1] + 0.014
    own, made = scores(frames, [ramp], flow, shots=split_shots(as_frames(frames)))
    assert own.warp_errors == {1: 0, 5: 0}
    assert made.warp_errors[1] == pytest.approx(0.002**2, rel=1e-3)
    assert made.warp_errors[5] == pytest.approx(0.010**2, rel=1e-3)
    assert made.slopes.brightness - own.slopes.brightness == pytest.approx(0.51, rel=1e-3)
    assert len(made.stability.curves.ssim) == 6 + 7
    joined = scores(frames, [ramp], no_flow)[1]
    assert joined.slopes.largest > 5
    assert len(joined.stability.curves.ssim) == 14


def test_patches_are_those_of_the_stability_experiment_and_so_is_the_ranking() -> None:
    frames = panning(6, height=80, width=104)
    masks = [torch.zeros(1, 1, 80, 104) for _ in frames]
    for mask in masks:
        mask[..., 60:] = 1
    clips = [noisy(frames, 0.08), noisy(frames, 0.02, seed=3)]
    settings = ScoreSettings(patches=4, seed=3)
    _, *found = scores(frames, clips, flow_of_pan(), settings, masks=masks)
    expected = stability.measure(
        frames, {"loud": clips[0], "quiet": clips[1]}, stability.StabilitySettings(4, seed=3), masks
    )
    for own, name in zip(found, ("loud", "quiet"), strict=True):
        row = expected[name].as_row()
        assert (own.stability.psnr, own.stability.ssim, own.stability.n) == (row["psnr"], row["ssim"], row["n"])
    assert found[1].stability.ssim > found[0].stability.ssim


def test_equal_clips_share_a_rank_and_what_has_no_figure_has_none() -> None:
    frames = panning(3, height=40, width=56)
    own, *found = scores(
        frames,
        [noisy(frames, 0.1), frames, frames],
        flow_of_pan(),
        losses=lambda frame, content: {"style": 4.0 if frame is content else 1.0},
    )
    found = [replace(one, stability=replace(one.stability, losses={"style": 1.0})) for one in found]
    assert clip_ranks(own, found, [0, 0, 0]) == [3, 1, 1]
    assert clip_ranks(own, found, [0, 5, 0]) == [2, None, 1]
    tiny = panning(3, height=16, width=6)
    (none,) = scores(tiny, [tiny], flow_of_pan(), ScoreSettings(gaps=(1, 5)))[1:]
    assert clip_ranks(own, [none], [0]) == [None]
    row = none.as_row()
    assert math.isnan(row["ssim"])
    assert math.isnan(row["warp_errors"]["5"])
    assert row["warp_error"] == 0


def scored(own: ClipScore, *clips: ScoredClip) -> Scores:
    decisive = {"width": 56, "height": 40, "patches": 10, "patch_size": 8, "radius": 1, "gaps": [1, 5], "flow": "dis"}
    decisive |= {"style": None, "perceptual_network": "vgg16"}
    return Scores(Path("original"), 3, 1, own, {}, clips, (), {}, decisive, 0)


def test_the_table_has_the_input_first_and_then_the_best() -> None:
    frames = panning(3)
    own, *found = scores(frames, [noisy(frames, 0.1), noisy(frames, 0.01)], flow_of_pan())
    loud, quiet = (
        ScoredClip(Path(name), name, rank, one)
        for name, rank, one in zip(("loud", "quiet"), (2, 1), found, strict=True)
    )
    shown = scored(own, loud, quiet).figures
    assert [row[0] for row in shown.rows] == ["input", "1 quiet", "2 loud"]
    assert shown.columns[3:5] == ["warp 1", "warp 5"]
    assert shown.rows[1][4] == "-"  # three frames have no gap of five
    assert "style loss" not in shown.columns
    assert len({len(row) for row in shown.rows} | {len(shown.columns)}) == 1
    alone = scored(own, loud).figures
    assert alone.rows[1] == ["loud", *shown.rows[2][1:]]


# What is stable because it does little


@pytest.fixture(scope="module")
def cheats() -> dict[str, ClipScore]:
    """A camera with noise pans over a picture; a network's stylization of it, and the three cheats of that."""
    scene = next(iter(open_clip(demo_clip(), 192, start=1).frames())).rgb
    generator = torch.Generator().manual_seed(0)
    noise = [0.01 * torch.randn(1, 3, 96, 160, generator=generator) for _ in range(8)]
    frames = [(scene[..., :96, 3 * t : 3 * t + 160] + own).clamp(0, 1) for t, own in enumerate(noise)]
    style = find_style("portrait_de_metzinger")
    honest = list(stylized(FeedForward(load_checkpoint(style.checkpoint("independent")).network), frames))
    network = PerceptualNetwork(read_tensors(perceptual_weights())[0])
    loss = PerceptualLoss(network, load_target(style.target)[0], LossSettings())
    clips = {"honest": honest} | {name: list(made) for name, made in stability.sanity_checks(frames, honest).items()}
    found = scores(frames, list(clips.values()), flow_of_pan(3), losses=perceptual_losses(loss))
    return dict(zip(["input", *clips], found, strict=True))


def test_no_cheat_ranks_before_the_honest_clip_though_all_have_a_higher_ssim(cheats: dict[str, ClipScore]) -> None:
    names = [name for name in cheats if name != "input"]
    assert all(standing(cheats[name]).ssim >= standing(cheats["honest"]).ssim for name in names)
    places = dict(zip(names, clip_ranks(cheats["input"], [cheats[n] for n in names], [0] * len(names)), strict=True))
    assert places["honest"] == 1
    assert places["copy of the input"] is None


def test_a_posterised_input_has_neither_rank_nor_headline() -> None:
    """It keeps the most of the input's style loss, and is steadier than any stylized clip."""
    frames = [frame.clone() for frame in panning(4)]
    loss = {id(frame): 4.0 for frame in frames}
    posterised, honest = [(frame * 4).round() / 4 for frame in frames], noisy(frames, 0.05)
    loss |= {id(frame): 3.76 for frame in posterised} | {id(frame): 0.5 for frame in honest}
    own, *found = scores(
        frames, [posterised, honest], flow_of_pan(), losses=lambda frame, _: {"style": loss[id(frame)]}
    )
    places = clip_ranks(own, found, [0, 0])
    clips = [ScoredClip(Path(n), n, p, one) for n, p, one in zip(("poster", "honest"), places, found, strict=True)]
    assert places == [None, 1]
    said = scored(own, *clips).findings()
    assert not any("steadiest" in one for one in said)
    assert "poster is hardly in the style: it keeps 94% of the input's style loss, and has no rank." in said


def test_a_copy_of_the_input_has_no_content_loss_and_the_input_s_style_loss(cheats: dict[str, ClipScore]) -> None:
    copy, honest = cheats["copy of the input"].stability, cheats["honest"].stability
    assert copy.content_loss == 0
    assert copy.style_loss == cheats["input"].stability.style_loss
    assert honest.content_loss > 0.3
    assert honest.style_loss < 0.5 * copy.style_loss


@pytest.mark.parametrize("cheat", ["blurred (sigma 1)", "mixed with previous"])
def test_a_result_that_is_blurred_in_space_or_time_has_a_higher_style_loss(
    cheats: dict[str, ClipScore], cheat: str
) -> None:
    assert cheats[cheat].stability.style_loss > 1.3 * cheats["honest"].stability.style_loss


def test_the_content_loss_alone_is_that_of_the_perceptual_loss(tiny_vgg: PerceptualNetwork) -> None:
    content, made = textured(24, 32), textured(24, 32, 1)
    found = perceptual_losses(ContentLoss(tiny_vgg, ("relu3_3",)))(made, content)
    expected = content_loss(tiny_vgg(made, ("relu3_3",))["relu3_3"], tiny_vgg(content, ("relu3_3",))["relu3_3"])
    assert found == {"content": pytest.approx(float(expected))}
    with pytest.raises(ValueError, match="relu9_9"):
        ContentLoss(tiny_vgg, ("relu9_9",))


# Pairing


def save(folder: Path, frames: Iterable[Tensor]) -> Clip:
    return open_clip(save_frames(folder, frames))


def film(path: Path, frames: Iterable[Tensor], fps: int) -> Clip:
    """A video of the frames."""
    source = save(path.with_suffix(".frames"), frames)
    convert_clip(open_clip(source.path, fps=fps), path, lambda stream: stream)
    return open_clip(path)


def walk(pairing: Pairing) -> list[Counterparts]:
    made = [pairing.counterparts() for _ in pairing.original_frames()]
    pairing.finish()
    return made


def test_frames_come_in_step_at_the_size_of_the_smallest_clip(tmp_path: Path) -> None:
    frames = panning(3, height=40, width=56)
    small = [F.avg_pool2d(frame, 2) for frame in frames]
    original, clip = save(tmp_path / "large", frames), save(tmp_path / "small", small)
    for pair in (Pairing(original, [clip]), Pairing(clip, [original])):
        assert (pair.width, pair.height, pair.frame_count) == (28, 20, 3)
        for content, made in zip(Pairing(original, [clip]).original_frames(), walk(pair), strict=True):
            assert content.rgb.shape == made.stylized[0].shape == (1, 3, 20, 28)
    assert torch.equal(walk(Pairing(original, [clip]))[2].stylized[0], next(itertools.islice(clip.frames(), 2, 3)).rgb)
    assert (Pairing(original, [clip], size=14).width, Pairing(original, [clip], size=14).height) == (14, 10)
    with pytest.raises(ValueError, match=r"at most 28 pixels, the longest side of .*small, got 56"):
        Pairing(original, [clip], size=56)


@pytest.mark.parametrize(("height", "width", "fits"), [(241, 427, True), (120, 214, True), (118, 214, False)])
def test_a_shape_may_differ_by_what_rounding_takes(tmp_path: Path, height: int, width: int, fits: bool) -> None:
    original = save(tmp_path / "original", [torch.zeros(1, 3, 240, 427)] * 2)
    clip = save(tmp_path / "clip", [torch.zeros(1, 3, height, width)] * 2)
    if fits:
        assert walk(Pairing(original, [clip]))[0].stylized[0].shape[-1] <= 427
        return
    expected = r"clip: expected the shape of .*original, 427x240 or scaled, got 214x118$"
    with pytest.raises(ValueError, match=expected):
        Pairing(original, [clip])


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("count", [2, 5])
def test_another_number_of_frames_is_named_with_both(tmp_path: Path, known: bool, count: int) -> None:
    """At once where the clips know it, at the end where they do not."""
    original, good = save(tmp_path / "original", panning(3)), save(tmp_path / "good", panning(3))
    clip = save(tmp_path / "clip", panning(count))
    message = rf"clip: expected 3 frames as .*original has, got {count}$"
    if known:
        with pytest.raises(ValueError, match=message):
            Pairing(original, [good, clip])
        return
    pairing = Pairing(unknown(original)[0], unknown(good, clip))
    assert pairing.frame_count is None
    with pytest.raises(ValueError, match=message):
        walk(pairing)


def unknown(*clips: Clip) -> list[Clip]:
    """The clips without the knowledge of their length, as from a pipe."""
    return [dataclasses.replace(clip, frame_count=None) for clip in clips]


def test_a_limit_takes_the_first_frames_whatever_follows(tmp_path: Path) -> None:
    original, clip = save(tmp_path / "original", panning(5)), save(tmp_path / "clip", panning(4))
    for clips in ([original, clip], unknown(original, clip)):
        assert len(walk(Pairing(clips[0], clips[1:], limit=3))) == 3
        with pytest.raises(ValueError, match=r"expected 5 frames as .* has, got 4"):
            walk(Pairing(clips[0], clips[1:], limit=6))


def test_frames_at_other_times_are_named(tmp_path: Path) -> None:
    frames = panning(4)
    original, clip = film(tmp_path / "original.y4m", frames, 25), film(tmp_path / "clip.y4m", frames, 10)
    with pytest.raises(
        ValueError, match=r"clip.y4m: expected frame 2 at 0.040 s as in .*original.y4m, got it at 0.100"
    ):
        walk(Pairing(original, [clip]))
    with pytest.raises(ValueError, match=r"faster.y4m: expected frame 3 at 0.080 s"):  # by more than half a frame
        walk(Pairing(original, [film(tmp_path / "faster.y4m", frames, 40)]))
    assert len(walk(Pairing(original, [open_clip(tmp_path / "clip.frames")]))) == 4  # pictures have no times
    assert len(walk(Pairing(original, [film(tmp_path / "near.y4m", frames, 27)]))) == 4  # within half a frame


def test_a_clip_may_begin_at_another_time(tmp_path: Path) -> None:
    frames = panning(3)
    original = film(tmp_path / "original.y4m", frames, 25)

    class Late(Clip):
        def frames(self) -> Iterator[Any]:
            for frame in original.frames():
                yield replace(frame, time=(frame.time or Fraction(0)) + 3)

    assert len(walk(Pairing(original, [Late(**vars(original))]))) == 3


def test_masks_mark_every_pixel_that_is_touched_and_must_fit(tmp_path: Path) -> None:
    original, clip = save(tmp_path / "original", panning(3)), save(tmp_path / "clip", panning(3, height=20, width=28))
    masks = [torch.zeros(1, 3, 40, 56) for _ in range(3)]
    masks[1][:, 2, 7, 10] = 1 / 255
    made = walk(Pairing(original, [clip], save(tmp_path / "masks", masks)))
    assert [int(pair.foreground.sum()) for pair in made if pair.foreground is not None] == [0, 1, 0]
    assert made[1].foreground is not None
    assert made[1].foreground[0, 0, 3, 5] == 1
    assert all(len(pair.stylized) == 1 for pair in made)
    with pytest.raises(ValueError, match=r"few: expected 3 frames as .*original has, got 2"):
        Pairing(original, [clip], save(tmp_path / "few", masks[:2]))
    with pytest.raises(ValueError, match="square: expected the shape of"):
        Pairing(original, [clip], save(tmp_path / "square", [mask[..., :40] for mask in masks]))


def test_a_clip_of_one_frame_is_refused(tmp_path: Path) -> None:
    original, clip = save(tmp_path / "original", panning(1)), save(tmp_path / "clip", panning(1))
    with pytest.raises(ValueError, match="original: expected a clip of at least two frames, got 1"):
        walk(Pairing(original, [clip]))


def test_memory_does_not_grow_with_the_length() -> None:
    """As many frames are alive as the longest gap reaches back and the flow reads ahead."""
    alive, most = 0, 0

    class Counted:
        def __init__(self) -> None:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def frame() -> Tensor:
        made = torch.rand(1, 3, 16, 16)
        made.counted = Counted()  # type: ignore[attr-defined]
        return made

    def most_of(length: int) -> int:
        nonlocal most
        gc.collect()
        most = 0
        meter = ScoreMeter(1, ScoreSettings(patches=1))
        original = (frame() for _ in range(length))
        for _ in score([as_frames(original)], lambda _: Counterparts([frame()], None), meter, no_flow):
            pass
        return most

    assert most_of(60) <= most_of(20) < 24
