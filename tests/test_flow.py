"""DeepFlow, the flow cache, flow computed ahead, and the files of flows and masks."""

import os
import struct
import sys
import threading
import types
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.optical_flow import raft_large

import nststab.flow.estimators
from nststab.flow.estimators import (
    ESTIMATORS,
    Estimator,
    between_frames,
    cached,
    deepflow,
    dis,
    require_estimator,
    trim_cache,
)
from nststab.flow.files import read_flo, read_mask, write_flo, write_mask
from nststab.flow.pairs import flow_ahead
from nststab.frames import as_frames
from nststab.warp import reliability


def shifted_pair(height: int, width: int, shift: int) -> tuple[Tensor, Tensor]:
    """Two frames of a smooth random texture which moves `shift` pixels to the left."""
    noise = torch.rand(1, 3, height // 4 + 4, width // 4 + 4, generator=torch.Generator().manual_seed(0))
    texture = torch.nn.functional.interpolate(noise, scale_factor=4, mode="bicubic").clamp(0, 1)
    return tuple(texture[..., 4 : 4 + height, 4 + x : 4 + x + width] for x in (0, shift))  # type: ignore[return-value]


def mean_flow(first: Tensor, second: Tensor) -> Tensor:
    """A stand-in for DeepFlow: the difference of the means everywhere."""
    return (second.mean() - first.mean()).expand(1, 2, *first.shape[-2:]).clone()


def plain_frames(count: int) -> list[Tensor]:
    return [torch.full((1, 3, 6, 7), float(number)) for number in range(count)]


both = pytest.mark.parametrize("estimate", [deepflow, dis])  # raft has no weights here


def test_raft_is_torchvision_s_on_padded_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    first, second = shifted_pair(126, 132, shift=2)
    with pytest.raises(OSError, match=r"raft_large_C_T_SKHT_V2-ff5fadd5\.pth: no such file; flow by raft needs"):
        ESTIMATORS["raft"](first, second)
    torch.manual_seed(0)
    network = raft_large(weights=None).eval()
    (tmp_path / "checkpoints").mkdir()
    torch.save(network.state_dict(), tmp_path / "checkpoints" / "raft_large_C_T_SKHT_V2-ff5fadd5.pth")
    padded = [F.pad(2 * frame - 1, (2, 2, 1, 1), mode="replicate") for frame in (first, second)]
    with torch.no_grad():
        expected = network(*padded)[-1][..., 1:-1, 2:-2]
    found = ESTIMATORS["raft"](first, second)
    assert found.shape == (1, 2, 126, 132)
    assert torch.allclose(found, expected, atol=1e-4)


@both
@pytest.mark.parametrize("size", [(32, 32), (20, 48), (64, 64)])
def test_a_shift_is_found_in_small_pictures(size: tuple[int, int], estimate: Estimator) -> None:
    first, second = shifted_pair(*size, shift=2)
    flow = estimate(first, second)
    assert flow.shape == (1, 2, *size)
    assert flow.dtype == torch.float32
    inner = flow[..., 4:-4, 4:-4]
    assert inner[:, 0].mean().item() == pytest.approx(-2, abs=0.1)
    assert inner[:, 1].mean().item() == pytest.approx(0, abs=0.1)
    assert torch.equal(estimate(first, second), flow)


@both
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 5)])
def test_the_tiniest_pictures_have_flow(size: tuple[int, int], estimate: Estimator) -> None:
    frame = torch.rand(1, 3, *size)
    assert estimate(frame, frame).shape == (1, 2, *size)
    assert estimate(frame, frame).abs().max() < 1e-3


@both
def test_frames_too_wide_for_opencv_are_refused(estimate: Estimator) -> None:
    with pytest.raises(ValueError, match="flow of 32767x1 cannot be estimated: OpenCV takes sides up to 32766"):
        estimate(torch.zeros(1, 3, 1, 32767), torch.zeros(1, 3, 1, 32767))


@both
def test_frames_of_two_sizes_have_no_flow(estimate: Estimator) -> None:
    with pytest.raises(ValueError, match=r"one shape \(1, 3, H, W\), got \(1, 3, 8, 8\) and \(1, 3, 8, 9\)"):
        estimate(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 9))


@pytest.mark.parametrize(
    ("library", "package"),
    [("libGL.so.1", "libgl1"), ("libgthread-2.0.so.0", "libglib2.0-0"), ("libglib-2.0.so.0", "libglib2.0-0")],
)
def test_a_missing_system_library_is_named_with_its_package(
    library: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As often as one asks: OpenCV's own loader speaks of a recursion the second time."""
    (tmp_path / "cv2.py").write_text(
        "import sys\n"
        "if hasattr(sys, 'OpenCV_LOADER'): raise ImportError('recursion')\n"
        "sys.OpenCV_LOADER = True\n"
        f"raise ImportError('{library}: cannot open shared object file: No such file or directory')\n"
    )
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):
        with pytest.raises(
            OSError, match=f"{library}.*Debian package {package},.*opencv-contrib-python-headless"
        ) as caught:
            deepflow(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))
        assert "\n" not in str(caught.value)


def test_no_opencv_or_the_wrong_one_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = torch.rand(1, 3, 8, 8)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(OSError, match="pip install opencv-contrib-python"):
        deepflow(frame, frame)
    with pytest.raises(OSError, match="pip install opencv-contrib-python"):
        dis(frame, frame)
    monkeypatch.setitem(sys.modules, "cv2", types.ModuleType("cv2"))
    require_estimator("dis")  # it is a part of every OpenCV
    with pytest.raises(OSError, match=r"uninstall opencv-python opencv-python-headless.*opencv-contrib-python"):
        deepflow(frame, frame)


def test_a_flow_file_is_middleburys_to_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.flo"
    flow = torch.tensor([[[1.5, -2.0, 3.0], [0.0, 1e9, -0.25]], [[4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]).unsqueeze(0)
    write_flo(path, flow)
    values = [1.5, 4, -2, 5, 3, 6, 0, 7, 1e9, 8, -0.25, 9]  # row by row, x and y of each pixel
    assert path.read_bytes() == b"PIEH" + struct.pack("<ii12f", 3, 2, *values)
    assert torch.equal(read_flo(path), flow)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "header of 12 bytes, got 0"),
        (b"PIEH\x01\x00", "header of 12 bytes, got 6"),
        (b"text, and no flow at all", "magic number 202021.25"),
        (struct.pack(">fii", 202021.25, 1, 1) + bytes(8), "magic number"),
        (b"PIEH" + struct.pack("<ii", 2, 2) + bytes(31), "cut off: expected 32 bytes for 2x2, got 31"),
        (b"PIEH" + struct.pack("<ii", 2, 2) + bytes(33), "too long: expected 32 bytes for 2x2, got 33"),
        (b"PIEH" + struct.pack("<ii", 2**31 - 1, 2**31 - 1), "sides of 1 to 99999 pixels, got 2147483647x2147483647"),
        (b"PIEH" + struct.pack("<ii", -1, 2), "sides of 1 to 99999"),
        (b"PIEH" + struct.pack("<ii2f", 1, 1, float("nan"), 0), "finite"),
    ],
)
def test_a_bad_flow_file_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.flo"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_flo(path)


def test_a_mask_file_is_cut_to_bytes_and_stable(tmp_path: Path) -> None:
    path = tmp_path / "mask.pgm"
    write_mask(path, torch.tensor([[0.0, 0.4991, 1.0]]).view(1, 1, 1, 3))
    assert path.read_bytes() == b"P5\n3 1\n255\n" + bytes([0, 127, 255])
    levels = torch.arange(256.0).view(1, 1, 16, 16) / 255
    write_mask(path, levels)
    assert torch.equal(read_mask(path), levels)
    path.write_bytes(b"P5 # written by hand\n# twice\n2\n1 255\n\x07\xff")
    assert (read_mask(path) * 255).tolist() == [[[[7.0, 255.0]]]]


@pytest.mark.parametrize(
    "data", [b"", b"P2\n1 1\n255\n7", b"P5\n1 1\n65535\n\x00\x00", b"P5\n2 2\n255\n\x00", b"P5\n0 0\n255\n"]
)
def test_a_bad_mask_file_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.pgm"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"bad\.pgm"):
        read_mask(path)


def test_writers_refuse_other_shapes_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one flow"):
        write_flo(tmp_path / "a.flo", torch.zeros(2, 2, 4, 4))
    with pytest.raises(ValueError, match="one mask"):
        write_mask(tmp_path / "a.pgm", torch.zeros(1, 3, 4, 4))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_flo(tmp_path / "nowhere" / "a.flo", torch.zeros(1, 2, 4, 4))
    assert list(tmp_path.iterdir()) == []


class CountedFlow:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        self.calls += 1
        return mean_flow(first, second)


def test_the_cache_computes_once_per_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted, (first, second) = CountedFlow(), plain_frames(2)
    flow = cached(counted, tmp_path / "cache", "mean")
    expected = mean_flow(first, second)
    assert torch.equal(flow(first, second), expected)
    assert torch.equal(cached(counted, tmp_path / "cache", "mean")(first.clone(), second.clone()), expected)
    assert counted.calls == 1
    assert torch.equal(flow(second, first), -expected)
    flow(first, second + 1e-7)
    flow(first.view(1, 3, 7, 6), second.view(1, 3, 7, 6))
    cached(counted, tmp_path / "cache", "other")(first, second)
    assert counted.calls == 5
    monkeypatch.setattr(nststab.flow.estimators, "estimator_version", lambda _: ("OpenCV", "another"))
    flow(first, second)
    assert counted.calls == 6


@pytest.mark.parametrize("damage", [b"", b"rubbish", b"PIEH" + struct.pack("<ii2f", 1, 1, 0, 0)])
def test_a_damaged_cache_entry_is_computed_again(damage: bytes, tmp_path: Path) -> None:
    counted, (first, second) = CountedFlow(), plain_frames(2)
    flow = cached(counted, tmp_path, "mean")
    flow(first, second)
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(damage)
    assert torch.equal(flow(first, second), mean_flow(first, second))
    assert counted.calls == 2
    flow(first, second)
    assert counted.calls == 2
    assert list(tmp_path.iterdir()) == [entry]


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_flow_ahead_keeps_the_order_and_pairs_the_directions(count: int) -> None:
    frames = plain_frames(count)
    results = list(flow_ahead(as_frames(frames), between_frames(mean_flow), workers=3))
    assert [frame.rgb[0, 0, 0, 0].item() for frame, _ in results] == list(range(count))
    for number, (_, pairs) in enumerate(results):
        assert list(pairs) == ([1] if number else [])
        for pair in pairs.values():
            assert torch.equal(pair.forward, torch.ones(1, 2, 6, 7))
            assert torch.equal(pair.backward, -torch.ones(1, 2, 6, 7))
            assert torch.equal(pair.forward_mask, reliability(pair.forward, pair.backward))
            assert torch.equal(pair.backward_mask, reliability(pair.backward, pair.forward))


def test_flow_ahead_reaches_back_as_far_as_the_stream_does() -> None:
    results = [
        pairs for _, pairs in flow_ahead(as_frames(plain_frames(6)), between_frames(mean_flow), distances=(4, 1, 2))
    ]
    assert [list(pairs) for pairs in results] == [[], [1], [1, 2], [1, 2], [1, 2, 4], [1, 2, 4]]
    for pairs in results:
        for distance, pair in pairs.items():
            assert torch.equal(pair.forward, torch.full((1, 2, 6, 7), float(distance)))
            assert torch.equal(pair.backward, -pair.forward)
    with pytest.raises(ValueError, match="at least 1 frame, got 0"):
        next(flow_ahead(as_frames(plain_frames(2)), between_frames(mean_flow), distances=(1, 0)))


def test_flow_ahead_holds_no_more_frames_than_it_says() -> None:
    held: list[weakref.ref[Tensor]] = []

    def frames() -> Iterator[Tensor]:
        for number in range(20):
            frame = torch.full((1, 3, 6, 7), float(number))
            held.append(weakref.ref(frame))
            yield frame

    for _frame, _ in flow_ahead(as_frames(frames()), between_frames(mean_flow), distances=(1, 3), workers=2):
        assert sum(ref() is not None for ref in held) <= 2 + 3 + 1


def test_both_directions_are_estimated_side_by_side() -> None:
    barrier = threading.Barrier(2, timeout=5)

    def flow(first: Tensor, second: Tensor) -> Tensor:
        barrier.wait()  # passes only when two estimates are in work at once
        return mean_flow(first, second)

    assert len(list(flow_ahead(as_frames(plain_frames(3)), between_frames(flow), workers=2))) == 3


def test_errors_of_flow_and_frames_travel_and_threads_end() -> None:
    def broken(first: Tensor, second: Tensor) -> Tensor:
        if second.mean() == 2:
            raise OSError("no flow for frame 2")
        return mean_flow(first, second)

    def cut_off() -> Iterator[Tensor]:
        yield from plain_frames(3)
        raise ValueError("the clip ends here")

    with pytest.raises(OSError, match="no flow for frame 2"):
        list(flow_ahead(as_frames(plain_frames(5)), between_frames(broken)))
    with pytest.raises(ValueError, match="the clip ends here"):
        list(flow_ahead(as_frames(cut_off()), between_frames(mean_flow)))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("flow")]


def test_closing_stops_the_workers_and_drops_what_waits() -> None:
    started = 0
    release = threading.Event()

    def slow(first: Tensor, second: Tensor) -> Tensor:
        nonlocal started
        started += 1
        release.wait(5)
        return mean_flow(first, second)

    results = flow_ahead(as_frames(plain_frames(20)), between_frames(slow), workers=2)
    next(results)
    threading.Timer(0.1, release.set).start()
    results.close()
    assert started <= 2  # of the four which were asked for
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("flow")]


def test_the_written_mask_of_a_straight_disocclusion(tmp_path: Path) -> None:
    """At its edge the smoothed value is 127.3, which Ruder's program cuts to 127: not above the threshold."""
    forward, backward = torch.zeros(2, 1, 2, 16, 16)
    backward[..., 8:] = 5
    write_mask(tmp_path / "mask.pgm", reliability(forward, backward))
    row = np.frombuffer((tmp_path / "mask.pgm").read_bytes()[-256:], dtype=np.uint8).reshape(16, 16)[5]
    assert row[4:10].tolist() == [255, 255, 243, 127, 0, 0]


def test_the_cache_gives_up_what_was_not_used_for_longest(tmp_path: Path) -> None:
    for age, name in enumerate(("newest", "middle", "oldest")):
        path = tmp_path / f"{name}.flo"
        path.write_bytes(bytes(100))
        os.utime(path, (1000 - age, 1000 - age))
    (tmp_path / "other.txt").write_bytes(bytes(1000))
    trim_cache(tmp_path, 200)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["middle.flo", "newest.flo", "other.txt"]
    trim_cache(tmp_path / "missing", 0)


def test_the_cache_is_trimmed_while_another_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("here.flo", "gone.part"):
        (tmp_path / name).write_bytes(bytes(100))
    found = list(tmp_path.glob("*"))
    (tmp_path / "gone.part").rename(tmp_path / "written")  # after it was found
    monkeypatch.setattr(Path, "glob", lambda _, pattern: [path for path in found if path.match(pattern)])
    trim_cache(tmp_path, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["written"]


def test_a_flow_that_is_read_counts_as_used(tmp_path: Path) -> None:
    frames = torch.rand(2, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    lookup = cached(lambda first, _: first[:, :2], tmp_path, "test")
    lookup(frames[0], frames[1])
    (entry,) = tmp_path.glob("*.flo")
    os.utime(entry, (1000, 1000))
    lookup(frames[0], frames[1])
    assert entry.stat().st_mtime > 1000
