"""The campaign's file, and its run by the clock, as on a machine that is lent for minutes."""

import runpy
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate, chain, repeat
from pathlib import Path

import pytest
import torch.nn.functional as F

from nststab.networks.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from nststab.networks.rows import PHOTOGRAPH
from nststab.networks.transformation import MARGIN, NetworkConfig
from nststab.tasks.train_network import train_network
from nststab.train.loop import TrainingStopped
from nststab.train.settings import NetworkSettings
from nststab.video.images import write_picture
from tests.conftest import rand, random_network, save_frames

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "campaign.py"
SMALL = ("width=8", "blocks=1", "batch=1", "crops=32", "strokes=32", "precision=float32")


def campaign(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def ticking(slower: float) -> Callable[[], float]:
    """A clock of which a look takes half a second, and later `slower` times that."""
    looks = accumulate(chain(repeat(0.5, 60), repeat(0.5 * slower)))
    return lambda: next(looks)


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    photos = F.interpolate(rand(5, 3, 6, 6), (44, 52), mode="bilinear")
    folder = save_frames(tmp_path / "photos" / "below", photos, "{}.png").parent
    write_picture(tmp_path / "wave.png", F.interpolate(rand(1, 3, 9, 6), (90, 60)))
    file = tmp_path / "campaign.zip"
    campaign(monkeypatch, "pack", "--photos", folder, "-o", file, tmp_path / "wave.png", "--megabytes", 0.05)
    return file


def trained(monkeypatch: pytest.MonkeyPatch, packed: Path, slower: float = 1, **options: object) -> Checkpoint:
    """What 90 seconds of that clock make, in the folder out beside the file."""
    settings = [word for setting in SMALL for word in ("--set", setting)]
    more = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    output = packed.parent / "out"
    with monkeypatch.context() as patched:
        patched.setattr("time.monotonic", ticking(slower))
        campaign(patched, "train", packed, "-o", output, "--minutes", 1.5, *settings, *more)
    return load_checkpoint(output / "network.safetensors")


@pytest.mark.usefixtures("averaging_vgg")
@pytest.mark.parametrize("slower", [1, 4])
def test_a_packed_campaign_trains_until_its_minutes_are_over(
    packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], slower: float
) -> None:
    assert packed.stat().st_size < 50_000
    assert len(zipfile.ZipFile(packed).namelist()) == 6
    config = NetworkConfig(False, (2, 4, 8), 1, MARGIN - 4, "light", ("wave@32", PHOTOGRAPH))  # as an earlier one had
    begun = packed.with_name("begun.safetensors")
    save_checkpoint(begun, Checkpoint(random_network(config)))
    made = trained(monkeypatch, packed, slower, start_from=begun)
    told = int(capsys.readouterr().out.split(" a second: ")[1].split()[0])
    assert made.network.config == replace(config, margin=MARGIN)
    assert told == made.training["pictures"] if slower == 1 else 24 < made.training["pictures"] < told


@pytest.mark.usefixtures("averaging_vgg")
def test_a_campaign_that_was_killed_goes_on_for_as_long_again(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, output = packed.with_name("begun.safetensors"), packed.with_name("out")
    config = NetworkConfig(False, (2, 4, 8), 1, MARGIN, "light", ("wave@32", PHOTOGRAPH))
    save_checkpoint(begun, Checkpoint(random_network(config)))
    afresh = trained(monkeypatch, packed, start_from=begun)
    shutil.rmtree(output)
    output.mkdir()
    zipfile.ZipFile(packed).extractall(packed.with_name("unpacked"))
    settings, asked = NetworkSettings(), iter([*[False] * 29, True])
    for name, _, text in (one.partition("=") for one in SMALL):
        settings = settings.with_text(name, text)
    with pytest.raises(TrainingStopped):
        train_network(
            [packed.with_name("unpacked") / "paintings" / "wave.jpg"],
            photos=packed.with_name("unpacked") / "photos",
            output=output / "network.safetensors",
            start_from=begun,
            settings=settings,
            device="cpu",
            stop=lambda: next(asked),
        )
    assert trained(monkeypatch, packed, start_from=begun).training["pictures"] == afresh.training["pictures"] + 30


def test_crops_that_grow_later_are_counted() -> None:
    """A third each of 100, 200 and 300 pixels: 4.67 times the pixels of the first, in the mean."""
    affordable = runpy.run_path(str(SCRIPT))["affordable"]
    settings = NetworkSettings(pictures=10**6, batch=2, crops=(100, 200, 300))
    assert affordable(settings, 0, 0.1, 140.001) == 600
    assert affordable(settings, 600, 0.1, 0.05) == 600
    assert affordable(replace(settings, crops=(100,)), 600, 0.1, 30.001) == 1200
    assert affordable(replace(settings, pictures=500), 0, 0.1, 1e9) == 500
    middle = affordable(settings, 300, 0.1, 100.001)  # what is left is more of the larger ones
    assert sum(replace(settings, pictures=middle).crop(seen) ** 2 for seen in range(300, middle, 2)) <= 100.001e5
