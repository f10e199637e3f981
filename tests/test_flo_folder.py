"""Flow read from a folder of .flo files under the names of Ruder's program."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nststab.flow.estimators import FloFolder
from nststab.flow.files import write_flo
from nststab.flow.pairs import flow_ahead
from nststab.frames import Frame, as_frames
from nststab.shots import by_shot

NAMES = ("forward_1_2", "forward_2_3", "forward_1_3", "backward_2_1", "backward_3_2", "backward_3_1")


def frames(count: int = 3) -> list[Frame]:
    return list(as_frames(torch.zeros(count, 1, 3, 4, 6)))


def flow_of(first: int, second: int) -> Tensor:
    """A flow which tells from where to where it leads."""
    return torch.tensor([float(first), float(second)]).view(1, 2, 1, 1).expand(1, 2, 4, 6).contiguous()


def save(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        _, first, second = name.split("_")
        write_flo(folder / f"{name}.flo", flow_of(int(first), int(second)))
    return folder


@pytest.mark.parametrize("names", [NAMES, [re.sub(r"(\d)", r"000\1", name) for name in NAMES]])
def test_frames_find_their_files_by_number(tmp_path: Path, names: tuple[str, ...]) -> None:
    flow = FloFolder(save(tmp_path / "flow", *names))
    numbered = frames()
    for first in range(3):
        for second in range(3):
            if first != second:
                assert torch.equal(flow(numbered[first], numbered[second]), flow_of(first + 1, second + 1))


def test_the_numbers_survive_cuts_and_the_long_term(tmp_path: Path) -> None:
    """A shot has flow only within itself, and its frames keep the numbers which they have in the clip."""
    generator = torch.Generator().manual_seed(0)
    shots = [torch.rand(1, 3, 4, 6, generator=generator) * 0.3 + light for light in (0.0, 0.7)]
    clip = [(shots[number // 4] + 0.001 * number).clamp(0, 1) for number in range(8)]
    pairs = [(a, b) for shot in (range(1, 5), range(5, 9)) for a in shot for b in shot if abs(a - b) in (1, 2)]
    names = [f"{'forward' if a < b else 'backward'}_{a}_{b}" for a, b in pairs]
    flow = FloFolder(save(tmp_path / "flow", *names))
    seen = []

    def stylizer(shot: Iterable[Frame]) -> Iterator[Frame]:
        for frame, flows in flow_ahead(shot, flow, (1, 2)):
            seen.append({d: tuple(pair.backward[0, :, 0, 0].int().tolist()) for d, pair in flows.items()})
            yield frame

    assert len(list(by_shot(stylizer, as_frames(clip)))) == 8
    shot = [{}, {1: (2, 1)}, {1: (3, 2), 2: (3, 1)}, {1: (4, 3), 2: (4, 2)}]
    second = [{d: (a + 4, b + 4) for d, (a, b) in flows.items()} for flows in shot]
    assert seen == shot + second


def empty(folder: Path) -> None:
    folder.mkdir()
    (folder / "reliable_1_2.pgm").touch()
    (folder / "frame_0001.flo").touch()


def a_file(folder: Path) -> None:
    folder.touch()


@pytest.mark.parametrize(
    ("prepare", "error", "message"),
    [
        (empty, ValueError, r"flow: expected flows named forward_1_2\.flo, backward_2_1\.flo and so on, found none"),
        (a_file, NotADirectoryError, "flow"),
        (lambda _: None, FileNotFoundError, "flow"),
    ],
)
def test_a_folder_without_flows_is_refused(
    tmp_path: Path, prepare: Callable[[Path], None], error: type[Exception], message: str
) -> None:
    prepare(tmp_path / "flow")
    with pytest.raises(error, match=message):
        FloFolder(tmp_path / "flow")


def test_a_missing_file_is_named_with_what_makes_it(tmp_path: Path) -> None:
    flow = FloFolder(save(tmp_path / "flow", "forward_1_2", "backward_1_2"))  # the second leads backwards, wrongly
    first, second, third = frames()
    with pytest.raises(FileNotFoundError, match=r"flow/backward_2_1\.flo: no such file; .* frame 2 to frame 1"):
        flow(second, first)
    message = r"forward_1_3\.flo: no such file; .* which nststab flow estimate --distances 1,2 writes"
    with pytest.raises(FileNotFoundError, match=message):
        flow(first, third)


def test_a_flow_of_another_size_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "flow", "forward_1_2")
    flow = FloFolder(tmp_path / "flow")
    with pytest.raises(ValueError, match=r"forward_1_2\.flo: expected 6x8 as the frames have, got a flow of 6x4"):
        flow.require_size(8, 6)
    write_flo(tmp_path / "flow" / "forward_2_3.flo", torch.zeros(1, 2, 4, 12))
    flow = FloFolder(tmp_path / "flow")
    _, second, third = frames()
    with pytest.raises(ValueError, match=r"forward_2_3\.flo: expected 6x4 as the frames have, got a flow of 12x4"):
        flow(second, third)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "flow", "forward_1_2") / "forward_1_2.flo"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"forward_1_2\.flo is cut off"):
        FloFolder(tmp_path / "flow")(*frames(2))
