import itertools
import math
from collections.abc import Iterable, Iterator, Mapping

import pytest
import torch
from torch import Tensor

from nststab import metrics
from nststab.frames import Frame, as_frames
from nststab.measure import stability
from nststab.measure.stability import CONTENT, StabilityMeter, StabilitySettings
from tests.conftest import on_pictures, texture

SETTINGS = StabilitySettings(patches=4, patch_size=12, radius=3, seed=1)


def panning(count: int, height: int = 32, width: int = 40) -> list[Tensor]:
    """A camera that pans by one pixel a frame."""
    scene = texture(height, width + count, cells=(12, 30))
    return [scene[..., t : t + width] for t in range(count)]


def noisy(frames: Iterable[Tensor], sigma: float = 0.05) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(2)
    for frame in frames:
        yield (frame * 0.5 + 0.25 + sigma * torch.randn(frame.shape, generator=generator)).clamp(0, 1)


def test_a_pan_without_change_scores_perfectly_and_noise_as_its_variance_says() -> None:
    frames = panning(6)
    settings = StabilitySettings(patches=10, patch_size=16, radius=2)
    inverted = [1 - frame for frame in frames]
    rows = stability.measure(iter(frames), {"inverted": iter(inverted), "noisy": noisy(frames)}, settings)
    assert list(rows) == [CONTENT, "inverted", "noisy"]
    # patches at the leading edge leave the frame; all others are found
    assert rows[CONTENT].psnr == rows["inverted"].psnr > 90
    assert max(rows["inverted"].curves.psnr) == metrics.PSNR_CAP
    assert rows["noisy"].psnr == pytest.approx(-10 * math.log10(2 * 0.05**2), abs=0.7)
    assert rows["noisy"].n == rows[CONTENT].n == 50
    assert len(rows["noisy"].curves.psnr) == len(rows["noisy"].curves.ssim) == 5
    assert rows["noisy"].ssim < 0.9 < rows["inverted"].ssim


def test_the_same_seed_measures_the_same_places_whatever_the_methods() -> None:
    frames = panning(4)
    alone = stability.measure(frames, {"noisy": noisy(frames)}, SETTINGS)
    among = stability.measure(frames, {"copy": frames, "noisy": noisy(frames)}, SETTINGS)
    assert alone["noisy"].curves.psnr == among["noisy"].curves.psnr
    assert alone["noisy"].ssim == among["noisy"].ssim
    assert among["copy"].curves.psnr == among[CONTENT].curves.psnr
    other = stability.measure(frames, {"noisy": noisy(frames)}, StabilitySettings(4, 12, 3, seed=2))
    assert other["noisy"].psnr != alone["noisy"].psnr


def test_patches_keep_off_the_foreground() -> None:
    frames = panning(4)
    masks = [torch.zeros(1, 1, 32, 40) for _ in frames]
    spoiled = []
    for t, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
        mask[..., :20] = 1
        spoiled.append(torch.cat([torch.full_like(frame[..., :20], t / 4), frame[..., 20:]], -1))
    rows = stability.measure(frames, {"spoiled": spoiled}, SETTINGS, foreground=masks)
    assert rows["spoiled"].psnr == rows[CONTENT].psnr
    assert stability.measure(frames, {"spoiled": spoiled}, SETTINGS)["spoiled"].psnr < rows["spoiled"].psnr


def test_flicker_is_measured_where_the_content_stands_still() -> None:
    still = panning(1) * 4
    pulsing = [frame * 0 + level for frame, level in zip(still, (0.4, 0.5, 0.4, 0.5), strict=True)]
    rows = stability.measure(still, {"pulsing": pulsing}, SETTINGS)
    assert rows["pulsing"].as_row()["flicker"] == pytest.approx(25.5)
    assert rows[CONTENT].flicker == 0


def test_losses_of_the_same_frames_stand_beside_the_input_s_own() -> None:
    frames = panning(3)
    grey = [torch.full_like(frame, 0.5) for frame in frames]

    def losses(frame: Tensor, content: Tensor) -> dict[str, float]:
        return {"style": float(frame.std()), "content": float((frame - content).abs().mean())}

    rows = stability.measure(frames, {"grey": grey}, SETTINGS, frame_losses=losses)
    assert rows[CONTENT].content_loss == 0 == rows["grey"].style_loss
    assert rows["grey"].losses["content"] == pytest.approx(sum(float((f - 0.5).abs().mean()) for f in frames) / 3)
    assert len(rows["grey"].curves.losses["style"]) == 3
    assert math.isnan(stability.measure(frames, {}, SETTINGS)[CONTENT].style_loss)


def test_the_content_is_looked_at_once_a_frame() -> None:
    class Loss:
        calls = 0

        def content_terms(self, images: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
            self.calls += 1
            return {"layer": images}, self(images, {"layer": images})

        def __call__(self, images: Tensor, content_targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {"content": (images - content_targets["layer"]).abs().max(), "style": images.mean()}

    loss = Loss()
    frames = panning(3)
    rows = stability.measure(
        frames, {"a": frames, "b": noisy(frames)}, SETTINGS, frame_losses=stability.perceptual_losses(loss)
    )
    assert loss.calls == 3
    assert rows["a"].content_loss == 0 < rows["b"].content_loss


@pytest.mark.parametrize("length", [2, 4])
def test_a_clip_of_another_length_is_named(length: int) -> None:
    with pytest.raises(ValueError, match=r"^mine (ends after 2 frames|has more frames)"):
        stability.measure(panning(3), {"mine": panning(length)}, SETTINGS)


def test_frames_of_another_size_are_named() -> None:
    with pytest.raises(ValueError, match="expected mine frames of"):
        stability.measure(panning(2), {"mine": panning(2, width=39)}, SETTINGS)


def test_clips_with_nothing_to_measure_give_no_figures() -> None:
    for frames in (panning(1), panning(3, height=5, width=9)):
        row = stability.measure(frames, {"mine": frames}, StabilitySettings())["mine"]
        assert math.isnan(row.psnr)
        assert row.as_row() == {"n": 0, **dict.fromkeys(("psnr", "ssim", "flicker", "style_loss", "content_loss"))}


def test_no_pair_spans_a_cut() -> None:
    meter = StabilityMeter(SETTINGS)
    for shot in (panning(3), [1 - frame for frame in panning(2)]):
        meter.start_shot()
        for frame in shot:
            meter.update(frame, {})
    assert len(meter.result()[CONTENT].curves.psnr) == 3
    assert meter.result()[CONTENT].psnr > 60


def test_stylizers_in_step_hold_no_more_frames_than_they_look_ahead() -> None:
    read = 0

    def stream() -> Iterator[Tensor]:
        nonlocal read
        for frame in panning(8):
            read += 1
            yield frame

    def two_ahead(frames: Iterable[Frame]) -> Iterator[Frame]:
        source = iter(frames)
        held = list(itertools.islice(source, 3))
        while held:
            yield held.pop(0)
            held += itertools.islice(source, 1)

    for index, (frame, made) in enumerate(
        stability.in_step(as_frames(stream()), {"ahead": two_ahead, "same": on_pictures(noisy)})
    ):
        assert made["ahead"] is frame.rgb
        assert made["same"].shape == frame.rgb.shape
        assert read <= index + 3
    assert index == 7


def test_the_cheats_are_stable_and_only_their_losses_show_it() -> None:
    frames = panning(4)
    checks = stability.sanity_checks(frames, noisy(frames))

    def losses(frame: Tensor, content: Tensor) -> dict[str, float]:
        """The noise is the style: how much of its variance is missing."""
        return {"style": abs(float((frame - (content * 0.5 + 0.25)).std()) - 0.05)}

    rows = stability.measure(frames, {"noisy": noisy(frames), **checks}, SETTINGS, frame_losses=losses)
    del rows[CONTENT]
    honest = rows.pop("noisy")
    assert len(rows) == 3
    assert all(cheat.psnr > honest.psnr for cheat in rows.values())
    assert all(cheat.style_loss > 2 * honest.style_loss for cheat in rows.values())


def test_the_cheats_are_what_they_are_called() -> None:
    frames = panning(3)
    first, second, _ = noisy(frames)
    copy, blurred, mixed = (list(made) for made in stability.sanity_checks(frames, noisy(frames)).values())
    assert all(torch.equal(a, b) for a, b in zip(copy, frames, strict=True))
    assert torch.allclose(mixed[1], (first + second) / 2)
    assert torch.allclose(blurred[0].mean((2, 3)), first.mean((2, 3)), atol=0.01)  # within each channel
    assert 0 < blurred[0].diff(dim=-1).abs().mean() < 0.6 * first.diff(dim=-1).abs().mean()


def test_patches_found_before_are_those_that_are_found_on_the_way() -> None:
    frames = panning(4)
    masks = [torch.zeros(1, 1, 32, 40) for _ in frames]
    for t, mask in enumerate(masks):
        mask[..., :10, 6 * t : 6 * t + 15] = 1
    found = list(stability.find_patches(frames, SETTINGS, masks))
    before = stability.measure(frames, {"noisy": noisy(frames)}, SETTINGS, patches=found)
    on_the_way = stability.measure(frames, {"noisy": noisy(frames)}, SETTINGS, masks)
    for name in (CONTENT, "noisy"):
        assert before[name].curves.psnr == on_the_way[name].curves.psnr
        assert (before[name].ssim, before[name].n) == (on_the_way[name].ssim, on_the_way[name].n)
    without = stability.measure(frames, {"noisy": noisy(frames)}, SETTINGS)
    assert without["noisy"].psnr != before["noisy"].psnr


def test_frames_without_room_for_a_patch_are_named() -> None:
    with pytest.raises(ValueError, match="a patch of 12x12 pixels, got 40x11"):
        list(stability.find_patches(panning(2, height=11), SETTINGS, [torch.zeros(1, 1, 11, 40)] * 2))
    assert SETTINGS.fitting(12, 40) == SETTINGS.of_frames(12, 40)


def test_losses_are_those_of_the_frames_that_are_asked_for() -> None:
    frames = panning(5)

    def losses(frame: Tensor, _content: Tensor) -> dict[str, float]:
        return {"style": float(next(t for t, own in enumerate(frames) if own is frame))}

    rows = stability.measure(frames, {}, SETTINGS, frame_losses=losses, loss_frames={1, 4})
    assert rows[CONTENT].curves.losses["style"] == [1, 4]
    assert rows[CONTENT].style_loss == 2.5
    assert len(rows[CONTENT].curves.psnr) == 4


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [(3, 10, {0, 1, 2}), (10, 10, set(range(10))), (30, 3, {5, 15, 25}), (7, 2, {1, 5}), (2, 1, {1})],
)
def test_frames_are_spread_evenly_over_a_clip(count: int, most: int, expected: set[int]) -> None:
    assert stability.spread(count, most) == expected
