"""Passes over a clip whose flow is known: order, blending, temporal loss, and what a killed run leaves behind."""

import weakref
from collections.abc import Iterator, Mapping
from itertools import groupby, pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nststab.baselines.gatys import Gatys
from nststab.baselines.multipass import MultiPass, blended
from nststab.baselines.settings import GatysSettings, MultiPassSettings
from nststab.flow.estimators import FlowFunction
from nststab.frames import Frame
from nststab.losses import PerceptualLoss
from nststab.metrics import warping_error
from nststab.warp import reliability, warp
from tests.conftest import stylized, translated

SHIFT = 2  # pixels to the right, each frame
FIRST = GatysSettings(iterations=3)
FEW = MultiPassSettings(later_iterations=2, passes=3, temporal_from=3)


def constant_flow(frame: Tensor, x: float) -> Tensor:
    flow = frame.new_zeros(1, 2, *frame.shape[-2:])
    flow[:, 0] = x
    return flow


class ExactFlow:
    """The flow between two frames of `translated`, in either direction, and how often it was asked for."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, first: Frame, second: Frame) -> Tensor:
        self.calls += 1
        return constant_flow(first.rgb, SHIFT * (second.number - first.number))


class Log:
    """A callback which hears the optimisations, and may end the run in the middle of one."""

    def __init__(self, end: int | None = None) -> None:
        self.optimizations: list[list[Mapping[str, float]]] = []
        self._end = end

    def __call__(self, iteration: int, terms: Mapping[str, float]) -> None:
        if iteration == 0:
            self.optimizations.append([])
        self.optimizations[-1].append(terms)
        if iteration == 1 and len(self.optimizations) == self._end:
            raise KeyboardInterrupt


def run(
    loss: PerceptualLoss,
    frames: list[Tensor],
    folder: Path,
    settings: MultiPassSettings = FEW,
    first: GatysSettings = FIRST,
    log: Log | None = None,
    flow: FlowFunction | None = None,
) -> list[Tensor]:
    return list(stylized(MultiPass(Gatys(loss, first, log), flow or ExactFlow(), settings, folder), frames))


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_neighbour_is_blended_in_where_its_flow_holds() -> None:
    own, warped = torch.full((1, 3, 1, 3), 0.8), torch.full((1, 3, 1, 3), 0.4)
    mask = torch.tensor([1.0, 0.5, 0.0]).view(1, 1, 1, 3)
    result = blended(own, warped, mask, 0.5)  # 0.5 c 0.4 + (1 - 0.5 c) 0.8
    torch.testing.assert_close(result, torch.tensor([0.6, 0.7, 0.8]).expand(1, 3, 1, 3))
    assert torch.equal(blended(own, warped, mask, 0.0), own)


def test_a_pass_begins_with_the_blend_and_goes_the_other_way(loss: PerceptualLoss, tmp_path: Path) -> None:
    """Without iterations the results are the blends: the second pass from the last frame, the third from the first."""
    frames = translated(3)
    first = list(stylized(Gatys(loss, FIRST), frames))
    forward = constant_flow(frames[0], SHIFT)
    to_next, to_previous = reliability(forward, -forward), reliability(-forward, forward)

    second = [*first]
    for i in (1, 0):
        second[i] = blended(first[i], warp(second[i + 1], forward), to_next, 0.3)
    third = [*second]
    for i in (1, 2):
        third[i] = blended(second[i], warp(third[i - 1], -forward), to_previous, 0.3)

    for passes, expected in enumerate((first, second, third), 1):
        settings = MultiPassSettings(0, passes, blend=0.3)
        results = run(loss, frames, tmp_path / str(passes), settings)
        for result, wanted in zip(results, expected, strict=True):
            torch.testing.assert_close(result, wanted, rtol=0, atol=1e-6)


def test_a_mask_guides_the_loss_of_every_pass(
    loss: PerceptualLoss, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = [torch.full((1, 1, 8, 8), 0.25 * (t + 1)) for t in range(3)]
    seen: list[float] = []
    call = PerceptualLoss.__call__

    def guided(
        self: PerceptualLoss, images: Tensor, targets: Mapping[str, Tensor], regions: Tensor
    ) -> dict[str, Tensor]:
        seen.append(float(regions.mean()))
        return call(self, images, targets, regions)

    monkeypatch.setattr(PerceptualLoss, "__call__", guided)
    frames = [Frame(rgb, t, mask=mask) for t, (rgb, mask) in enumerate(zip(translated(3), masks, strict=True))]
    list(MultiPass(Gatys(loss, FIRST), ExactFlow(), FEW, tmp_path)(frames))
    assert [mean for mean, _ in groupby(seen)] == [0.25, 0.5, 0.75, 0.5, 0.25, 0.5, 0.75]


def test_the_temporal_loss_begins_with_its_pass_and_needs_a_neighbour(loss: PerceptualLoss, tmp_path: Path) -> None:
    log = Log()
    run(loss, translated(3), tmp_path, log=log)
    assert [len(terms) for terms in log.optimizations] == [4] * 3 + [3] * 6
    tied = [all("temporal" in values for values in terms) for terms in log.optimizations]
    assert tied == [False] * 3 + [False] * 3 + [False, True, True]
    assert log.optimizations[-1][0]["temporal"] > 0


def test_passes_reduce_the_warping_error(loss: PerceptualLoss, tmp_path: Path) -> None:
    frames = translated(4)
    backward = constant_flow(frames[0], -SHIFT)
    mask = reliability(backward, -backward)

    def error(passes: int) -> float:
        settings = MultiPassSettings(10, passes, temporal_from=3)
        results = run(loss, frames, tmp_path / str(passes), settings, GatysSettings(iterations=10, init="noise"))
        return sum(warping_error(a, b, backward, mask).error for a, b in pairwise(results))

    errors = [error(passes) for passes in (1, 3, 5)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.2 * errors[0]


def test_an_interrupted_run_goes_on_to_the_same_result(loss: PerceptualLoss, tmp_path: Path) -> None:
    frames = translated(3)
    undisturbed = run(loss, frames, tmp_path / "undisturbed")
    for end in (1, 4, 5, 9):  # the first optimisation of a pass, one in the middle, the last
        folder, again = tmp_path / str(end), Log()
        with pytest.raises(KeyboardInterrupt):
            run(loss, frames, folder, log=Log(end))
        (folder / "shot_0001").mkdir(parents=True, exist_ok=True)
        (folder / "shot_0001" / "frame_000001.npy.part").write_bytes(b"half of a file")
        assert same(run(loss, frames, folder, log=again), undisturbed)
        assert len(again.optimizations) == 9 - (end - 1)
        assert contents(folder) == contents(tmp_path / "undisturbed")


def contents(folder: Path) -> list[tuple[str, bytes]]:
    return [(path.name, path.read_bytes()) for path in sorted((folder / "shot_0001").iterdir())]


def test_killed_between_a_result_and_the_removal_of_the_one_before(loss: PerceptualLoss, tmp_path: Path) -> None:
    frames = translated(3)
    undisturbed = run(loss, frames, tmp_path / "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        run(loss, frames, tmp_path, log=Log(5))
    newest = tmp_path / "shot_0001" / "result_000002_pass_002.npy"
    assert newest.exists()
    newest.with_name("result_000002_pass_001.npy").write_bytes(b"superseded")
    assert same(run(loss, frames, tmp_path), undisturbed)
    assert contents(tmp_path) == contents(tmp_path / "undisturbed")


def test_flows_of_an_earlier_run_are_not_estimated_again(loss: PerceptualLoss, tmp_path: Path) -> None:
    frames = translated(6)
    with pytest.raises(KeyboardInterrupt):
        run(loss, frames, tmp_path, log=Log(4))
    flow = ExactFlow()
    run(loss, frames, tmp_path, flow=flow)
    assert flow.calls == 2 * 3  # of the frames 3, 4 and 5
    run(loss, frames, tmp_path, flow=flow)
    assert flow.calls == 2 * 3


def test_other_frames_than_the_earlier_run_had_are_refused(loss: PerceptualLoss, tmp_path: Path) -> None:
    frames = translated(3)
    with pytest.raises(KeyboardInterrupt):
        run(loss, frames, tmp_path, log=Log(3))
    with pytest.raises(ValueError, match=r"frame_000001\.npy: expected the frame that an earlier run kept"):
        run(loss, [frames[0], frames[2]], tmp_path)
    with pytest.raises(ValueError, match="expected the 2 frames of an earlier run, got 1"):
        run(loss, frames[:1], tmp_path)


def test_a_clip_of_one_frame_and_of_none(loss: PerceptualLoss, tmp_path: Path) -> None:
    (frame,) = translated(1)
    log = Log()
    (result,) = run(loss, [frame], tmp_path / "one", log=log)
    assert len(log.optimizations) == 3
    assert result.shape == frame.shape
    assert run(loss, [], tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def test_each_call_has_its_folder(loss: PerceptualLoss, tmp_path: Path) -> None:
    frames = translated(4)
    method = MultiPass(Gatys(loss, FIRST), ExactFlow(), FEW, tmp_path)
    shots = [frames[:2], frames[2:]]
    results = [list(stylized(method, shot)) for shot in shots]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shot_0001", "shot_0002"]
    log = Log()
    again = MultiPass(Gatys(loss, FIRST, log), ExactFlow(), FEW, tmp_path)
    assert all(same(list(stylized(again, shot)), kept) for shot, kept in zip(shots, results, strict=True))
    assert log.optimizations == []


def test_no_more_than_a_few_frames_are_held(loss: PerceptualLoss, tmp_path: Path) -> None:
    held: list[weakref.ref[Tensor]] = []
    most = 0

    def frames() -> Iterator[Tensor]:
        nonlocal most
        for _ in range(12):
            frame = torch.rand(1, 3, 32, 32)
            held.append(weakref.ref(frame))
            most = max(most, sum(ref() is not None for ref in held))
            yield frame

    gatys = Gatys(loss, GatysSettings(iterations=1))
    results = stylized(
        MultiPass(gatys, lambda first, _: torch.zeros_like(first.rgb[:, :2]), MultiPassSettings(1, 2), tmp_path),
        frames(),
    )
    assert sum(1 for _ in results) == 12
    assert most <= 5


@pytest.mark.parametrize(("passes", "first"), [(2, 2), (3, 2), (4, 3), (5, 3), (10, 6), (15, 8)])
def test_the_second_half_of_the_passes_has_the_temporal_loss(passes: int, first: int) -> None:
    settings = MultiPassSettings(passes=passes)
    assert [number for number in range(2, passes + 1) if settings.has_temporal_loss(number)] == [
        *range(first, passes + 1)
    ]


def test_a_damaged_result_is_named(loss: PerceptualLoss, tmp_path: Path) -> None:
    """The passes after it were made from it, so it cannot be computed again alone."""
    frames = translated(2)
    run(loss, frames, tmp_path)
    path = next(tmp_path.rglob("result_000001*.npy"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"{path.name} is damaged"):
        run(loss, frames, tmp_path)
