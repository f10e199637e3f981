"""Style transfer of a clip by several passes over it in alternating direction (Ruder et al. 2016, multi-pass)."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count, islice
from pathlib import Path

import torch
from torch import Tensor

from nststab.errors import NststabError
from nststab.flow.estimators import FlowFunction
from nststab.flow.pairs import FlowPair, flow_ahead
from nststab.frames import Frame
from nststab.storage.durable import read_tensor, write_tensor
from nststab.warp import warp

from .gatys import Gatys, objective, optimize
from .ruder import tied
from .settings import MultiPassSettings

_RESULT = re.compile(r"result_(\d+)_pass_(\d+)\.npy")


@dataclass(frozen=True, eq=False)
class MultiPass:
    """Ruder et al. 2016 in several passes: a `Stylizer` that reads its shot to the end before it yields a frame.

    The first pass is that of `gatys`, each frame on its own; its optimizer and tolerance serve the later ones too. In
    each later one a frame begins with its own result blended with that of the neighbour which this pass came from,
    warped, where the flow can be trusted; from `temporal_from` on the term "temporal" keeps it near to that neighbour.
    So what enters at the frame's border, or from behind an object, spreads from later frames to earlier ones too.

    Everything between the passes is on disk, 40 bytes a pixel and frame: float32 frame, flows and last result. An
    optimisation that an earlier run finished there is not done again; the result is the same to the bit.

    Args:
        flow: gets frames on the CPU, from several threads.
        folder: call number k keeps its shot in the subfolder shot_000k, of which its final results stay. Whoever
            gives it also removes it, and gives it again only with the same frames and settings.

    Raises:
        ValueError: `folder` holds other frames. Others: as `Gatys` does.
    """

    gatys: Gatys
    flow: FlowFunction
    settings: MultiPassSettings
    folder: Path
    _calls: Iterator[int] = field(default_factory=lambda: count(1), init=False)

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        return self._stylize(frames, self.folder / f"shot_{next(self._calls):04d}")

    def _stylize(self, frames: Iterable[Frame], folder: Path) -> Iterator[Frame]:
        shot = _Shot(folder)
        taken = self._first_pass(frames, shot)
        count = len(taken)
        for number in range(2, self.settings.passes + 1):
            for index in range(count) if _forward(number) else reversed(range(count)):
                if shot.passes[index] < number:
                    shot.keep_result(index, number, self._improve(shot, index, number, taken[index].mask))
        for index, frame in enumerate(taken):
            content = None if frame.content is None else shot.frame(index)
            yield replace(frame, rgb=shot.result(index), content=content)
        shot.keep_results_only()

    def _first_pass(self, frames: Iterable[Frame], shot: "_Shot") -> list[Frame]:
        """Fills `shot` with frames, flows and first results; returns what else belongs to the frames."""
        stream, taken = iter(frames), list[Frame]()
        done = len(shot.passes)
        for frame in islice(stream, max(0, done - 1)):
            shot.expect(len(taken), frame)
            taken.append(_without_pictures(frame))
        for frame, pairs in flow_ahead(stream, self.flow):
            index = len(taken)
            taken.append(_without_pictures(frame))
            if index < done:  # the last of an earlier run, read for the flow to the next
                shot.expect(index, frame)
                continue
            shot.keep_frame(index, frame.rgb, pairs.get(1))
            shot.keep_result(index, 1, self.gatys.stylize(frame.rgb, frame.mask))
        if len(taken) < done:
            raise NststabError(f"{shot.folder}: expected the {done} frames of an earlier run, got {len(taken)}")
        return taken

    def _improve(self, shot: "_Shot", index: int, number: int, mask: Tensor | None) -> Tensor:
        """The result of pass `number` for the frame `index`, which is stylized where its mask says."""
        gatys, device = self.gatys, self.gatys.device
        settings = replace(gatys.settings, iterations=self.settings.later_iterations)
        own = shot.result(index).to(device)
        terms = objective(gatys.loss, shot.frame(index).to(device), mask, gatys.settings.chroma_weight)
        neighbour = index - 1 if _forward(number) else index + 1
        if neighbour not in shot.passes:  # this frame is the first of the pass
            return optimize(own, terms, settings, gatys.callback).cpu()
        pair = shot.flows(max(index, neighbour))
        there = (pair.backward, pair.backward_mask) if _forward(number) else (pair.forward, pair.forward_mask)
        flow, trusted = (part.to(device) for part in there)
        warped = warp(shot.result(neighbour).to(device), flow)
        if self.settings.has_temporal_loss(number):
            terms = tied(terms, [warped], [trusted], self.settings.temporal_weight)
        return optimize(blended(own, warped, trusted, self.settings.blend), terms, settings, gatys.callback).cpu()


def _without_pictures(frame: Frame) -> Frame:
    """What belongs to a frame; its pictures are in files meanwhile."""
    nothing = frame.rgb.new_empty(0)
    return replace(frame, rgb=nothing, content=None if frame.content is None else nothing)


def _forward(number: int) -> bool:
    return number % 2 == 1


def blended(own: Tensor, warped: Tensor, mask: Tensor, weight: float) -> Tensor:
    """What a frame of a later pass begins with, δ c ∘ ω(x_neighbour) + (1 - δ c) ∘ x_own (Ruder et al. 2016).

    Pictures (1, 3, H, W), `mask` c (1, 1, H, W), `weight` δ. Where c is 1 and δ 1/2, as in the paper, Ruder's program
    weighs both alike too; where c is 1/2 it takes a third of the neighbour, and we a quarter, as the paper writes it.
    """
    return torch.lerp(own, warped, weight * mask)


class _Shot:
    """What is kept of a shot in a folder: its frames, the flows between them, and the last result of each frame.

    Files appear whole, and a result's name carries its pass, so that what a killed run left is in order at any moment.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.passes: dict[int, int] = {}  # frame -> the pass of its last result
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.suffix == ".part":  # was being written
                path.unlink()
            elif match := _RESULT.fullmatch(path.name):
                index, number = int(match[1]), int(match[2])
                if index in self.passes:  # was about to be removed
                    self._result_path(index, self.passes[index]).unlink()
                self.passes[index] = number

    def expect(self, index: int, frame: Frame) -> None:
        """Raises ValueError if another frame is kept; a finished shot's are gone, and kept anew if they are needed."""
        path = self._frame_path(index)
        if not path.exists() and frame.content is not None:
            write_tensor(path, frame.rgb)
        elif path.exists() and not torch.equal(read_tensor(path), frame.rgb.cpu()):
            raise NststabError(f"{path}: expected the frame that an earlier run kept here, got another")

    def keep_frame(self, index: int, frame: Tensor, pair: FlowPair | None) -> None:
        """Keeps a frame (1, 3, H, W) and the flows between the previous one and it; their masks follow from them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_tensor(self._frame_path(index), frame)
        if pair is not None:
            write_tensor(self._flows_path(index), torch.cat([pair.forward, pair.backward]))  # (2, 2, H, W)

    def keep_result(self, index: int, number: int, result: Tensor) -> None:
        """Keeps the result (1, 3, H, W) of pass `number`, in the place of the one before it."""
        write_tensor(self._result_path(index, number), result)
        self.passes[index] = number
        self._result_path(index, number - 1).unlink(missing_ok=True)

    def frame(self, index: int) -> Tensor:
        return read_tensor(self._frame_path(index))

    def flows(self, index: int) -> FlowPair:
        """Between the frame before `index` and this one."""
        flows = read_tensor(self._flows_path(index))  # (2, 2, H, W)
        return FlowPair.of(flows[:1], flows[1:])

    def result(self, index: int) -> Tensor:
        return read_tensor(self._result_path(index, self.passes[index]))

    def keep_results_only(self) -> None:
        """Frees the room of what only a pass needs."""
        for index in self.passes:
            for path in (self._frame_path(index), self._flows_path(index)):
                path.unlink(missing_ok=True)

    def _frame_path(self, index: int) -> Path:
        return self.folder / f"frame_{index:06d}.npy"

    def _flows_path(self, index: int) -> Path:
        return self.folder / f"flows_{index:06d}.npy"

    def _result_path(self, index: int, number: int) -> Path:
        return self.folder / f"result_{index:06d}_pass_{number:03d}.npy"
