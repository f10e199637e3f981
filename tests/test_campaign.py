"""The campaign's file, and its run by the clock, as on a machine that is lent for minutes."""

import runpy
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


@pytest.mark.usefixtures("averaging_vgg")
@pytest.mark.parametrize("slower", [1, 4])
def test_a_packed_campaign_trains_until_its_minutes_are_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], slower: float
) -> None:
    photos = save_frames(
        tmp_path / "photos" / "below", F.interpolate(rand(5, 3, 6, 6), (44, 52), mode="bilinear"), "{}.png"
    )
    write_picture(tmp_path / "wave.png", F.interpolate(rand(1, 3, 9, 6), (90, 60)))
    packed, begun = tmp_path / "campaign.zip", tmp_path / "begun.safetensors"
    campaign(monkeypatch, "pack", "--photos", photos.parent, "-o", packed, tmp_path / "wave.png", "--megabytes", 0.05)
    assert packed.stat().st_size < 50_000
    assert len(zipfile.ZipFile(packed).namelist()) == 6

    config = NetworkConfig(False, (2, 4, 8), 1, MARGIN - 4, "light", ("wave@32", PHOTOGRAPH))  # as an earlier one had
    save_checkpoint(begun, Checkpoint(random_network(config)))
    settings = [word for setting in SMALL for word in ("--set", setting)]
    with monkeypatch.context() as patched:
        patched.setattr("time.monotonic", ticking(slower))
        campaign(patched, "train", packed, "-o", tmp_path / "out", "--minutes", 1.5, "--start-from", begun, *settings)
    told = int(capsys.readouterr().out.split(" a second: ")[1].split()[0])
    made = load_checkpoint(tmp_path / "out" / "network.safetensors")
    assert made.network.config == replace(config, margin=MARGIN)
    assert told == made.training["pictures"] if slower == 1 else 24 < made.training["pictures"] < told
