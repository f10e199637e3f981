"""One network of many styles: its losses fall, a kill costs nothing, two processes take the steps of one."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as distributed
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from nststab.datasets.folders import PhotoFolder
from nststab.errors import MissingFile, NststabError, SettingError
from nststab.listener import silent
from nststab.losses import temporal_loss
from nststab.networks.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from nststab.networks.rows import PHOTOGRAPH
from nststab.networks.transformation import NetworkConfig, TransformationNetwork, make_recurrent
from nststab.storage.jobs import Job, OtherSettings, open_job
from nststab.styles import shipped
from nststab.tasks import train_network
from nststab.train.loop import SKIPPED_IN_A_ROW, TrainingDiverged, TrainingStopped
from nststab.train.network import SHIFT, NetworkData, NetworkLoss, NetworkTrainer, fit_network
from nststab.train.settings import NetworkSettings
from nststab.vgg import PerceptualNetwork
from nststab.video.images import write_picture
from tests.conftest import cli, done, rand, save_frames, tiny_state_dict, tiny_target

ROOT = Path(__file__).parents[1]
STYLES = ("wave@32", "wave@48", "scream@32", PHOTOGRAPH)
QUICK: Any = {"learning_rate": 0.05, "adam_rate": 0.01}
SETTINGS = NetworkSettings(
    pictures=16, batch=2, crops=(32,), precision="float32", validate_every=1000, cooldown=0, save_seconds=1e9
)


def network(seed: int = 0, styles: tuple[str, ...] = STYLES) -> TransformationNetwork:
    torch.manual_seed(seed)
    return TransformationNetwork(NetworkConfig(False, (2, 4, 8), 1, 4, "light", styles))


@pytest.fixture
def photos(tmp_path: Path) -> PhotoFolder:
    smooth = F.interpolate(rand(4, 3, 6, 6), (44, 52), mode="bilinear")
    return PhotoFolder(save_frames(tmp_path / "photos", smooth, "{}.png"))


def make_loss(settings: NetworkSettings = SETTINGS) -> NetworkLoss:
    vgg = PerceptualNetwork(tiny_state_dict())
    pictures = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(5)) * torch.tensor(
        [1.0, 0.5, 0.2]
    ).view(3, 1, 1, 1)
    return NetworkLoss.of(vgg, [tiny_target(picture[None]) for picture in pictures], settings)


def fitted(
    photos: PhotoFolder,
    folder: Path,
    settings: NetworkSettings = SETTINGS,
    stop: Callable[[], bool] = lambda: False,
    begun: TransformationNetwork | None = None,
) -> tuple[NetworkTrainer, dict[str, float]]:
    folder.mkdir(exist_ok=True)
    trainer = NetworkTrainer(begun or network(), settings)
    seen, held_out = photos.hold_out(1)
    losses = fit_network(
        trainer,
        make_loss(settings),
        seen,
        held_out,
        STYLES,
        folder / "state.pt",
        folder / "net.safetensors",
        progress=silent,
        stop=stop,
    )
    return trainer, losses


def same(one: NetworkTrainer, other: NetworkTrainer) -> bool:
    weights = [
        trainer.network.state_dict() | {f"mean {n}": v for n, v in trainer.average.items()} for trainer in (one, other)
    ]
    return all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_the_losses_fall_and_are_logged(photos: PhotoFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nststab.train.network._LOGGED", 25)
    before = fitted(photos, tmp_path / "short", replace(SETTINGS, pictures=2))[1]
    settings = replace(SETTINGS, pictures=120, crops=(32, 40), averaging=0.9, **QUICK)
    trainer, after = fitted(photos, tmp_path / "long", settings)
    assert (trainer.step, trainer.pictures) == (60, 120)
    assert set(after) == {"content", "style"}
    assert sum(after.values()) < 0.8 * sum(before.values())
    lines = [json.loads(line) for line in (tmp_path / "long/net.jsonl").read_text().splitlines()]
    assert [(line["step"], line["pictures"], line["size"]) for line in lines] == [(25, 50, 32), (50, 100, 40)]
    assert set(lines[1]) == {"step", "pictures", "size", "content", "style", "photograph", "shift"}
    assert [path.name for path in (tmp_path / "long/net.validation").iterdir()] == ["0000060.png"]


def test_the_shift_term_makes_it_move_with_its_content(photos: PhotoFolder, tmp_path: Path) -> None:
    settings = replace(SETTINGS, pictures=60, content_weight=0.0, style_weight=0.0, photograph_weight=0.0, **QUICK)
    trained = fitted(photos, tmp_path / "run", settings)[0].network
    batch = NetworkData(photos, 4).batch(8, 32, torch.Generator().manual_seed(3))
    with torch.no_grad():
        change, before = (float(make_loss(SETTINGS)(one, batch)["shift"]) for one in (trained, network()))
    assert change < 0.7 * before


def test_a_stopped_run_resumes_and_ends_with_the_same_weights(photos: PhotoFolder, tmp_path: Path) -> None:
    undisturbed, losses = fitted(photos, tmp_path / "a")
    asked = iter([False, False, True])
    with pytest.raises(TrainingStopped, match="stopped after 3 steps"):
        fitted(photos, tmp_path / "b", stop=lambda: next(asked))
    resumed, again = fitted(photos, tmp_path / "b", begun=network(7))
    assert same(resumed, undisturbed)
    assert again == losses
    assert not same(resumed, fitted(photos, tmp_path / "c", replace(SETTINGS, seed=1))[0])


def test_a_longer_run_goes_on_from_a_finished_one(photos: PhotoFolder, tmp_path: Path) -> None:
    fitted(photos, tmp_path / "a")
    longer, _ = fitted(photos, tmp_path / "a", replace(SETTINGS, pictures=20, learning_rate=0.01))
    assert (longer.step, longer.pictures) == (10, 20)


def test_the_state_of_other_styles_or_another_network_is_refused(photos: PhotoFolder, tmp_path: Path) -> None:
    trainer, _ = fitted(photos, tmp_path / "a")
    path = tmp_path / "a/state.pt"
    with pytest.raises(NststabError, match="is of the styles wave@32, wave@48, scream@32, photograph"):
        trainer.load(path, STYLES[:2])
    with pytest.raises(NststabError, match="is the state of another network"):
        NetworkTrainer(network(styles=STYLES[:2]), SETTINGS).load(path, STYLES)
    other = network()
    other._modules = dict(reversed(other._modules.items()))  # momentum would come to another weight
    with pytest.raises(NststabError, match="another order"):
        NetworkTrainer(other, SETTINGS).load(path, STYLES)
    path.write_bytes(b"Dear diary")
    with pytest.raises(NststabError, match="is no training state"):
        trainer.load(path, STYLES)


def test_no_step_stands_in_the_log_twice(photos: PhotoFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a kill between two savings of the state, and where a run begins afresh beside the log of another."""
    monkeypatch.setattr("nststab.train.network._LOGGED", 1)
    log, sheets, asked = tmp_path / "a/net.jsonl", tmp_path / "a/net.validation", iter([False, False, True])
    with pytest.raises(TrainingStopped):
        fitted(photos, tmp_path / "a", stop=lambda: next(asked))
    log.write_text(log.read_text() + '{"step": 4, "pictures": 8}\n{"st')
    write_picture(sheets / "0000004.png", rand(1, 3, 8, 8))
    for _ in range(2):
        fitted(photos, tmp_path / "a")
        assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == list(range(1, 9))
        assert [path.name for path in sheets.iterdir()] == ["0000008.png"]
        (tmp_path / "a/state.pt").unlink()


def test_crops_without_contrast_are_drawn_again(tmp_path: Path) -> None:
    """Half of the photograph is a clear sky."""
    (tmp_path / "sky").mkdir()
    picture = torch.full((1, 3, 300, 100), 0.7)
    picture[..., 260:, :] = torch.rand(1, 3, 40, 100, generator=torch.Generator().manual_seed(0))
    write_picture(tmp_path / "sky/1.png", picture)
    data = NetworkData(PhotoFolder(tmp_path / "sky"), 4)
    for seed in range(4):
        batch = data.batch(4, 32, torch.Generator().manual_seed(seed))
        assert batch.photos.flatten(1).std(1).min() > 0.005
        assert batch.moved.flatten(1).std(1).min() > 0.005


def test_both_crops_show_the_same(photos: PhotoFolder) -> None:
    for seed in range(4):
        photo, moved, (top, left), styles = NetworkData(photos, 4).batch(2, 32, torch.Generator().manual_seed(seed))
        assert max(abs(top), abs(left)) <= SHIFT
        assert styles.max() < 4
        one = photo[..., max(top, 0) : 32 + min(top, 0), max(left, 0) : 32 + min(left, 0)]
        other = moved[..., max(-top, 0) : 32 - max(top, 0), max(-left, 0) : 32 - max(left, 0)]
        assert (one - other).abs().mean() < 0.03
        assert (one - other).abs().max() < 0.15


def test_a_step_that_is_not_finite_is_skipped(photos: PhotoFolder) -> None:
    trainer, loss = NetworkTrainer(network(), SETTINGS), make_loss()
    batch = NetworkData(photos, 4).batch(2, 32, torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    broken = batch._replace(photos=batch.photos * torch.nan)
    assert trainer.train(loss, broken, 1.0) is None
    assert all(torch.equal(value, before[name]) for name, value in trainer.network.state_dict().items())
    assert trainer.train(loss, batch, 1.0) is not None
    for _ in range(SKIPPED_IN_A_ROW - 1):
        trainer.train(loss, broken, 1.0)
    with pytest.raises(TrainingDiverged, match=f"not finite for {SKIPPED_IN_A_ROW} steps in a row"):
        trainer.train(loss, broken, 1.0)


def test_the_weights_of_styles_weigh_their_losses(photos: PhotoFolder) -> None:
    loss, model = make_loss(), network()
    batch = NetworkData(photos, 4).batch(2, 32, torch.Generator().manual_seed(0))._replace(styles=torch.tensor([1, 1]))
    heavier = replace(loss, weights=torch.tensor([1.0, 3.0, 1.0]))
    with torch.no_grad():
        one, three = loss(model, batch), heavier(model, batch)
    assert three["style"].item() == pytest.approx(3 * one["style"].item())
    assert three["content"] == one["content"]


def test_the_row_of_the_photograph_learns_to_give_it_back(photos: PhotoFolder, tmp_path: Path) -> None:
    settings = replace(SETTINGS, pictures=240, content_weight=0.0, style_weight=0.0, shift_weight=0.0)
    begun = fitted(photos, tmp_path / "short", replace(settings, pictures=2))[0].network
    trained = fitted(photos, tmp_path / "long", settings)[0].network
    batch = NetworkData(photos, 4).batch(4, 32, torch.Generator().manual_seed(3))._replace(styles=torch.full((4,), 3))
    with torch.no_grad():
        before, after = (make_loss(settings)(one, batch) for one in (begun, trained))
    assert before["content"] == before["style"] == 0
    assert after["photograph"] < 0.6 * before["photograph"]
    picture = begun(batch.photos, None, F.one_hot(batch.styles, 4).float())
    assert before["photograph"].item() == pytest.approx(100 * float((picture - batch.photos).square().mean()), rel=1e-5)


def test_only_rows_leaves_what_the_styles_share(photos: PhotoFolder, tmp_path: Path) -> None:
    settings = replace(SETTINGS, pictures=80, only_rows=True, adam_rate=0.05)
    before = network().state_dict()
    begun = fitted(photos, tmp_path / "short", replace(settings, pictures=2))[1]
    trainer, after = fitted(photos, tmp_path / "long", settings)
    for name, value in trainer.network.state_dict().items():
        assert torch.equal(value, before[name]) == (".normalization." not in name), name
    assert sum(after.values()) < 0.9 * sum(begun.values())


def test_a_new_style_begins_as_the_nearest_of_the_network(photos: PhotoFolder, tmp_path: Path) -> None:
    """Its target is the Gram matrix of what one of the rows draws, so that row has no style loss for it."""
    old = network(3)
    with torch.no_grad():
        for name, value in old.named_parameters():
            if ".normalization." in name:
                value.add_(torch.randn_like(value))
        photo = photos.center_crops(32, 32)[:1]
        drawn = old(photo, None, torch.tensor([[0.0, 1, 0, 0]]))
    save_checkpoint(tmp_path / "old.safetensors", Checkpoint(old), torch.float32)
    vgg = PerceptualNetwork(tiny_state_dict())
    loss = NetworkLoss.of(vgg, [tiny_target(drawn)], SETTINGS)
    names = ("new@32", PHOTOGRAPH)
    trainer = NetworkTrainer(network(styles=names), SETTINGS)
    train_network._begin(trainer, tmp_path / "old.safetensors", names, loss, photo)
    for name, value in trainer.network.state_dict().items():
        of_old = old.state_dict()[name]
        torch.testing.assert_close(value, of_old[[1, 3]] if ".normalization." in name else of_old)


def test_many_readers_make_the_batches_of_one(
    photos: PhotoFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = fitted(photos, tmp_path / "one")
    monkeypatch.setattr("nststab.train.network._readers", lambda _: 3)
    three, _ = fitted(photos, tmp_path / "three")
    for name, value in one.average.items():
        torch.testing.assert_close(three.average[name], value, rtol=0, atol=0)


def test_of_clips_it_is_recurrent_and_grows_steady(photos: PhotoFolder, tmp_path: Path) -> None:
    settings = replace(SETTINGS, pictures=40, length=3, temporal_weight=300.0, style_weight=0.0, content_weight=0.1)
    settings = replace(settings, photograph_weight=0.0, shift_weight=0.0, **QUICK)
    steady = fitted(photos, tmp_path / "run", settings, begun=make_recurrent(network()))[0].network
    clips = NetworkData(photos, 4).clips(4, 32, 3, torch.Generator().manual_seed(3))
    with torch.no_grad():
        change, before = (
            float(make_loss(settings)(one, clips)["temporal"]) for one in (steady, make_recurrent(network()))
        )
    assert change < 0.8 * before
    first = steady.state_dict()["encoder.0.convolution.weight"]
    assert first[:, 3:].abs().sum() > 0  # it looks at what it drew


def test_the_temporal_term_is_that_of_the_unrolled_clip(photos: PhotoFolder) -> None:
    loss, model = make_loss(), make_recurrent(network())
    with torch.no_grad():
        dict(model.named_parameters())["encoder.0.convolution.weight"][:, 3:].normal_(0, 0.1)
        batch = NetworkData(photos, 4).clips(2, 32, 3, torch.Generator().manual_seed(0))
        batch = batch._replace(styles=torch.tensor([0, 2]))
        terms = loss(model, batch)
        styles = F.one_hot(batch.styles, 4).float()
        frames, forward, mask = batch.clips
        drawn: list[Tensor] = []
        for at in range(3):
            drawn.append(model(frames[:, at], drawn[-1] if drawn else None, styles))
        change = [temporal_loss(drawn[at + 1], drawn[at], forward[:, at], mask[:, at]) for at in range(2)]
        torch.testing.assert_close(terms["temporal"], 50 * (change[0] + change[1]) / 2)
        style = [loss.painted(made, frames[:, at], batch.styles)["style"] for at, made in enumerate(drawn)]
        torch.testing.assert_close(terms["style"], torch.stack(style).mean())
        after, (down, right) = model(batch.moved, drawn[0], styles), batch.offset
        inner = slice(8, 24 - down), slice(8, 24 - right)
        there = slice(8 + down, 24), slice(8 + right, 24)
        moved = (drawn[0][:, :, *there] - after[:, :, *inner]).square().mean()
        torch.testing.assert_close(terms["shift"], 30 * moved)
    assert set(terms) == {"content", "style", "photograph", "temporal", "shift"}


def test_the_moved_picture_of_a_clip_is_its_first_frame_a_little_disturbed(photos: PhotoFolder) -> None:
    batch = NetworkData(photos, 4).clips(2, 32, 3, torch.Generator().manual_seed(2))
    down, right = batch.offset
    assert min(batch.offset) > 0
    assert max(batch.offset) <= SHIFT
    first = batch.clips.frames[:, 0]
    change = batch.moved[..., :-down, :-right] - first[..., down:, right:]
    assert 0 < change.abs().mean() < 0.05
    unmoved = batch.moved - first
    assert unmoved.abs().mean() > 2 * change.abs().mean()


def test_crops_grow_and_rates_fall_at_the_end() -> None:
    settings = NetworkSettings(pictures=900, crops=(128, 192, 256), cooldown=0.2)
    assert [settings.crop(done) for done in (0, 299, 300, 599, 600, 899, 900)] == [128, 128, 192, 192, 256, 256, 256]
    assert settings.rate(0, 0) == pytest.approx(1 / 50)
    assert settings.rate(450, 100) == 1
    assert settings.rate(810, 100) == pytest.approx(0.5)


SECOND = """
import sys, torch
from pathlib import Path
from nststab.styles import shipped
from tests.test_train_network import as_one_of_two
folder = Path(sys.argv[1])
shipped._PACKAGE = folder / "package"
torch.save(as_one_of_two(1, folder), folder / "second.pt")
"""


@pytest.fixture
def shelf(photos: PhotoFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photographs, two paintings and a perceptual network of a few channels."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "package/weights").mkdir(parents=True)
    save_file(tiny_state_dict(), tmp_path / "package/weights/vgg16-conv4_3.safetensors")
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "package")
    for name in ("b", "a"):
        write_picture(Path(f"{name}.png"), torch.rand(1, 3, 40, 40))
    assert len(photos) == 4
    return tmp_path


def trained(style: str, folder: Path, **options: Any) -> train_network.TrainedMany:
    settings = replace(SETTINGS, pictures=4, strokes=(32,), width=8, blocks=1)
    files: dict[str, Any] = {"photos": folder / "photos", "output": folder / "net.safetensors"}
    return train_network.train_network([folder / style], settings=settings, device="cpu", **files, **options)


def fitted_with_terms(photos: PhotoFolder, folder: Path) -> tuple[list[Any], dict[str, Tensor]]:
    """The terms of every step, and the weights at the end."""
    found: list[Any] = []
    train = NetworkTrainer.train

    def recorded(*arguments: Any) -> dict[str, float] | None:
        terms = train(*arguments)
        found.append(terms)
        return terms

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(NetworkTrainer, "train", recorded)
        return found, fitted(photos, folder)[0].network.state_dict()


def as_one_of_two(rank: int, folder: Path) -> tuple[list[Any], dict[str, Tensor]]:
    """What one of two processes makes of a training, after which both begin another one afresh."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        found = fitted_with_terms(PhotoFolder(folder / "photos"), folder / "two")
        trained("b.png", folder, restart=True)
    finally:
        distributed.destroy_process_group()
    return found


def test_two_processes_take_the_steps_of_one(photos: PhotoFolder, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then they begin afresh where another run was stopped, whose state none of them may go on from."""
    terms, _ = fitted_with_terms(photos, shelf / "one")
    with pytest.raises(TrainingStopped):
        trained("a.png", shelf, stop=lambda: True)

    def opened_late(*given: Any) -> Job:
        time.sleep(1)
        return open_job(*given)

    monkeypatch.setattr(train_network, "open_job", opened_late)
    with subprocess.Popen([sys.executable, "-c", SECOND, str(shelf)], cwd=ROOT, stderr=subprocess.PIPE) as process:
        first, weights = as_one_of_two(0, shelf)
        assert process.wait(300) == 0, process.communicate()[1]
    second, others = torch.load(shelf / "second.pt", weights_only=True)
    assert first == second
    assert all(torch.equal(value, others[name]) for name, value in weights.items())
    assert len(terms) == len(first) == SETTINGS.pictures // SETTINGS.batch
    for one, two in zip(terms, first, strict=True):
        assert two == pytest.approx(one, rel=1e-2)  # sums of another order, which Adam makes larger
    assert first[0] == pytest.approx(terms[0], rel=1e-5)


# The network, its file and the command


def test_the_names_of_its_weights_stay() -> None:
    """States and files of earlier trainings have them."""
    names = {name.rpartition(".")[0] for name in network().state_dict()}
    parts = ("encoder.0", "encoder.1", "blocks.0.first", "blocks.0.second", "decoder.0", "decoder.1")
    assert names == {f"{part}.{kind}" for part in parts for kind in ("convolution", "normalization")} | {"output"}
    assert network().state_dict()["decoder.0.normalization.scale"].shape == (4, 4)


def test_a_run_of_an_older_version_goes_on_and_one_from_another_start_does_not(shelf: Path) -> None:
    """The older version did not have `length`, nor did it note what a run began with."""
    trained("a.png", shelf)
    (shelf / "net.safetensors").rename(shelf / "start.safetensors")
    with pytest.raises(TrainingStopped):
        trained("a.png", shelf, stop=lambda: True, start_from="start.safetensors")
    with pytest.raises(OtherSettings, match=r"start_from was start.safetensors \(\w+\), is not given"):
        trained("a.png", shelf)
    job = shelf / "net.safetensors.unfinished/job.json"
    identity = json.loads(job.read_text())
    del identity["settings"]["length"], identity["start_from"]
    job.write_text(json.dumps(identity))
    made = trained("a.png", shelf, start_from="start.safetensors")
    assert load_checkpoint(made.output).training["steps"] == 2


def test_the_edge_of_a_crop_is_none_for_the_loss(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VGG's zeros are one, for which a network would draw a frame."""
    losses: list[NetworkLoss] = []

    def kept(_trainer: NetworkTrainer, loss: NetworkLoss, *_: Any, **__: Any) -> dict[str, float]:
        losses.append(loss)
        return {}

    monkeypatch.setattr(train_network, "fit_network", kept)
    trained("a.png", shelf)
    features = losses[0].perceptual(torch.full((1, 3, 32, 32), 0.3), list(losses[0].grams))
    for flat in features.values():
        torch.testing.assert_close(flat, flat[..., :1, :1].expand_as(flat))


def test_a_start_that_is_not_there_or_its_own_state_costs_no_work(shelf: Path) -> None:
    with pytest.raises(TrainingStopped):
        trained("a.png", shelf, stop=lambda: True)
    state = shelf / "net.safetensors.unfinished/state.pt"
    with pytest.raises(SettingError, match=r"is the unfinished work of .*net\.safetensors itself"):
        trained("a.png", shelf, start_from=state, restart=True)
    with pytest.raises(MissingFile, match=r"no such network, or state of a training: nothing\.safetensors"):
        trained("a.png", shelf, start_from="nothing.safetensors", restart=True)
    assert state.exists()


@pytest.mark.usefixtures("shelf")
def test_the_command_trains_and_writes_one_file() -> None:
    small = "--photos photos --crops 32 --strokes 32,48 --set width=8 --set blocks=1 --precision float32"

    def run(arguments: str) -> str:
        result = done(cli(f"train network {arguments}"))
        return result.stderr

    said = run(f"b.png a.png {small} --pictures 8 -o net.safetensors")
    assert said.splitlines()[-1].startswith("net.safetensors: 2 styles, trained on 8 pictures, validation content ")
    made: Checkpoint = load_checkpoint(Path("net.safetensors"))
    first, record = made.network, made.training
    assert first.config.styles == ("a@32", "a@48", "b@32", "b@48", PHOTOGRAPH)
    assert (record["pictures"], record["settings"]["batch"], record["photos"]) == (8, 4, 2)
    assert not list(Path().glob("*.unfinished"))
    run(
        f"a.png b.png {small} --pictures 4 --start-from net.safetensors --set learning_rate=1e-9 -o further.safetensors"
    )
    further = load_checkpoint(Path("further.safetensors")).network
    name = "blocks.0.first.convolution.weight"
    torch.testing.assert_close(further.state_dict()[name], first.state_dict()[name], atol=1e-3, rtol=0)
    run(f"a.png b.png {small} --batch 2 --pictures 2 --length 2 --start-from net.safetensors -o recurrent.safetensors")
    assert load_checkpoint(Path("recurrent.safetensors")).network.config == replace(first.config, recurrent=True)
    refused = cli(f"train network a.png {small} --style-weights 1,2 -o x.safetensors")
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (2, 1)
    assert "expected one for each style, got 2 for 1 styles" in refused.stderr
