"""An optimisation whose shots, or blocks of frames, are shared among processes: the same result, nothing lost."""

from collections.abc import Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest
import torch

import nststab
from nststab.errors import NststabError, SettingError
from nststab.methods.settings import OptimizationSettings
from nststab.storage.jobs import Job, unfinished
from nststab.tasks.settings import StylizeSettings
from nststab.tasks.workers import workers
from nststab.video.clip import open_clip
from nststab.video.images import write_picture
from tests.conftest import moving_picture, save_frames, save_vgg


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with workers(jobs=2) as pool:
        assert pool is not None
        yield pool


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Of twenty frames, with a cut after the eleventh, beside a style and tiny weights."""
    save_vgg(tmp_path)
    write_picture(tmp_path / "style.png", moving_picture(30))
    frames = [moving_picture(number, 32, 32) for number in range(20)]
    return save_frames(tmp_path / "film", frames[:11] + [1 - frame.flip(3) ** 3 for frame in frames[11:]])


def stylized(film: Path, method: str, output: str, executor: Executor | None, **more: Any) -> list[torch.Tensor]:
    folder = film.parent
    iterations = (3, 2) if method == "ruder" else (2,)
    gatys = OptimizationSettings(iterations=iterations, vgg_weights=folder / "vgg.safetensors", init="noise")
    settings = StylizeSettings(gatys=gatys, preserve_color=True, **more)
    out, options = f"{folder}/{output}/", {"settings": settings, "device": "cpu", "executor": executor}
    nststab.stylize(film, out, style=folder / "style.png", method=method, **options)  # type: ignore[arg-type]
    assert not unfinished(Path(out)).exists()
    return [frame.rgb for frame in open_clip(out).frames()]


@pytest.mark.parametrize("method", ["ruder", "gatys"])
def test_the_pictures_are_those_of_one_process(
    film: Path, method: str, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = stylized(film, method, "alone", None)

    def computes() -> torch.Tensor:
        raise AssertionError("this process finds all results")

    keep = Job.keep
    monkeypatch.setattr(Job, "keep", lambda job, _: keep(job, computes))
    together = stylized(film, method, "together", executor)
    assert len(together) == len(alone) == 20
    assert all(map(torch.equal, alone, together))


def test_styles_of_regions_are_shared_too(film: Path, executor: Executor) -> None:
    write_picture(film.parent / "mask.png", torch.ones(1, 3, 32, 32).triu())
    write_picture(film.parent / "other.png", moving_picture(50).flip(1))
    regions = {"mask_styles": (f"{film.parent}/other.png={film.parent}/mask.png",)}
    alone = stylized(film, "gatys", "alone", None, **regions)
    together = stylized(film, "gatys", "together", executor, **regions)
    assert all(map(torch.equal, alone, together))
    assert not any(map(torch.equal, alone, stylized(film, "gatys", "plain", None)))


def test_a_folder_that_the_others_do_not_write_to_is_told(film: Path) -> None:
    class Elsewhere(Executor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002
            done: Future[None] = Future()
            done.set_result(None)
            return done

    with pytest.raises(NststabError, match="must write to this folder too"):
        stylized(film, "ruder", "out", Elsewhere())


def test_what_cannot_be_shared_is_refused(film: Path, executor: Executor) -> None:
    with pytest.raises(SettingError, match="can share ruder in one pass and gatys"):
        nststab.stylize(film, film.parent / "out.mp4", style="mosaic", executor=executor, device="cpu")
