"""Unfinished work: what is kept comes back to the bit, belongs to one command, and survives damage and a full disk."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from nststab.flow import files as flow_files
from nststab.flow.estimators import trim_cache
from nststab.networks.checkpoints import save_target
from nststab.storage.durable import write_durably
from nststab.storage.jobs import (
    Job,
    OtherSettings,
    content_hash,
    differences,
    open_job,
    overwrites,
    unfinished,
)
from nststab.tasks import flow as flow_task
from nststab.video.images import write_picture
from tests.conftest import Run, cli, contents, done, save_frames, tiny_state_dict, tiny_target, told

IDENTITY = {"method": "ruder", "style_weight": 3.0, "iterations": (20, 10)}


def picture(seed: int) -> Tensor:
    return torch.rand(1, 3, 7, 5, generator=torch.Generator().manual_seed(seed))


def never() -> Tensor:
    pytest.fail("computed again")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three kept results, of a job that was left."""
    path = tmp_path / "out.mp4.unfinished"
    with open_job(path, IDENTITY) as job:
        assert not job.resumed
        assert not job.has_results
        for seed in range(3):
            assert torch.equal(job.keep(lambda seed=seed: picture(seed)), picture(seed))  # type: ignore[misc]
            job.progress(seed + 1)
    return path


def kept(folder: Path, count: int = 3) -> tuple[list[Tensor], list[int]]:
    """What a job that goes on hands back, and which results it had to compute."""
    computed: list[int] = []

    def compute(number: int) -> Tensor:
        computed.append(number)
        return picture(number)

    with open_job(folder, IDENTITY) as job:
        return [job.keep(lambda k=k: compute(k)) for k in range(count)], computed  # type: ignore[misc]


def test_results_come_back_in_order_to_the_bit(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "frames",
        "job.json",
        *(f"result_000000_00000{number}.npy" for number in range(3)),
    ]
    results, computed = kept(folder, 4)
    assert computed == [3]
    assert all(torch.equal(result, picture(number)) for number, result in enumerate(results))
    assert {(result.dtype, result.is_contiguous()) for result in results} == {(torch.float32, True)}
    assert {result.data_ptr() % 64 for result in results} == {0}  # as torch allocates: arithmetic may depend on it


def test_a_result_is_laid_out_as_one_that_is_read(tmp_path: Path) -> None:
    spread = picture(0).to(memory_format=torch.channels_last).requires_grad_()
    with open_job(tmp_path / "job", {}) as job:
        computed = job.keep(lambda: spread)
    with open_job(tmp_path / "job", {}) as job:
        read = job.keep(never)
    assert computed.stride() == read.stride() != spread.stride()
    assert not computed.requires_grad
    assert torch.equal(computed, spread)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda data: data[:-7],
    "empty": lambda _: b"",
    "zeros": lambda data: bytes(len(data)),
    "one bit": lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:],
    "another file": lambda _: b"this is no array at all, but long enough to be one",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_result_is_computed_again(folder: Path, damage: str) -> None:
    path = folder / "result_000000_000001.npy"
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    for again in ([1], []):
        results, computed = kept(folder)
        assert computed == again
        assert all(torch.equal(result, picture(number)) for number, result in enumerate(results))


def test_other_settings_are_named_and_begin_afresh_only_when_asked(folder: Path) -> None:
    other = {**IDENTITY, "style_weight": 7.0, "seed": 4}
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(
        OtherSettings,
        match=r"^[^\n]*out.mp4.unfinished holds unfinished work of other settings: "
        r"style_weight was 3, is 7, seed was not given, is 4$",
    ):
        open_job(folder, other)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with open_job(folder, IDENTITY, restart=True) as job:  # the same settings: nothing to begin afresh
        assert (job.resumed, job.frames) == (True, 3)
    with open_job(folder, other, restart=True) as job:
        assert (job.resumed, job.frames, job.has_results) == (False, 0, False)
        assert torch.equal(job.keep(lambda: picture(9)), picture(9))
    with pytest.raises(OtherSettings):
        open_job(folder, IDENTITY)


def test_differences_name_what_is_nested_and_what_is_gone() -> None:
    before = {"loss": {"style": 1.0, "content": 1.0}, "steps": 5, "init": "noise"}
    now = {"loss": {"style": 0.5, "content": 1.0}, "steps": 5, "size": 64}
    named = "loss.style was 1, is 0.5, init was noise, is not given, size was not given, is 64"
    assert differences(before, now) == named
    assert differences(now, now) == ""


def test_what_an_older_job_lacks_counts_as_its_default(folder: Path) -> None:
    now = {**IDENTITY, "tv_weight": 0.5}
    with pytest.raises(OtherSettings, match=r"tv_weight was 0, is 0\.5"):
        open_job(folder, now, defaults={"tv_weight": 0.0})
    with open_job(folder, now, defaults={"tv_weight": 0.5}) as job:
        assert (job.resumed, job.frames) == (True, 3)


def test_a_damaged_identity_is_other_work(folder: Path) -> None:
    (folder / "job.json").write_bytes(b"{")
    with pytest.raises(OtherSettings, match=r"other settings: job.json is damaged$"):
        open_job(folder, IDENTITY)
    with open_job(folder, IDENTITY, restart=True) as job:
        assert not job.has_results


def test_only_one_process_works_on_a_job(folder: Path) -> None:
    with open_job(folder, IDENTITY), pytest.raises(ValueError, match="another process is at work on this output"):
        open_job(folder, IDENTITY)
    open_job(folder, IDENTITY).__exit__(None, None, None)


def test_a_folder_of_the_users_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "out.unfinished"
    mine.mkdir()
    (mine / "result_000000_000000.npy").write_text("my own")
    for restart in (False, True):
        with pytest.raises(ValueError, match="stands where unfinished work is kept, and is none: move it away"):
            open_job(mine, IDENTITY, restart)
    assert (mine / "result_000000_000000.npy").read_text() == "my own"
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(FileExistsError):
        open_job(file, IDENTITY)


class Killed(BaseException):
    """Stands for the signal."""


def test_a_kill_while_it_is_removed_leaves_no_job(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(_path: Path, missing_ok: bool = False) -> None:  # noqa: ARG001
        raise Killed

    with open_job(folder, IDENTITY) as job, monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", killed)
        with pytest.raises(Killed):
            job.finish()
    assert (folder / "result_000000_000002.npy").exists()
    with open_job(folder, IDENTITY) as job:
        assert (job.resumed, job.has_results) == (False, False)


def test_what_a_kill_left_half_written_is_removed(folder: Path) -> None:
    for name in (".0123456789ab.part", "result_000000_000003.npy.part"):
        (folder / name).write_bytes(b"half")
    (folder / ".hidden.part").touch()
    assert kept(folder, 4)[1] == [3]
    assert [path.name for path in sorted(folder.glob("*.part"))] == [".hidden.part"]


def test_overwriting_is_allowed_by_a_job_only(folder: Path) -> None:
    output = folder.with_name("out.mp4")
    assert unfinished(output) == folder
    assert not overwrites(output)
    with open_job(folder, IDENTITY) as job:
        job.allow_overwriting()
        assert overwrites(output)
        job.finish()
    assert not overwrites(output)


def test_contents_tell_files_apart(tmp_path: Path) -> None:
    for name, content in (("a/1.png", "x"), ("a/2.png", "y"), ("b/1.png", "x"), ("b/3.png", "y"), ("c/1.png", "xy")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    hashes = [content_hash(tmp_path / name) for name in "abc"]
    assert len(set(hashes)) == 3
    assert content_hash(sorted((tmp_path / "a").iterdir())) == hashes[0]
    assert (
        content_hash(tmp_path / "a/1.png") == content_hash(tmp_path / "b/1.png") != content_hash(tmp_path / "a/2.png")
    )
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    assert content_hash(tmp_path / "copy") == hashes[0]


def full_disk(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_durably(path, b"before")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_durably(path, b"after")
    assert caught.value.filename == str(path)
    assert (path.read_bytes(), [entry.name for entry in tmp_path.iterdir()]) == (b"before", ["file"])


# The commands


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `nststab ...` beside `film`, four pictures, and a tiny VGG.

    Sides are multiples of 16: x264 rarely codes the same frames otherwise where its last row of blocks is in part.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    scene = F.interpolate(picture(1), (32, 44), mode="bicubic").clamp(0, 1)
    save_frames("film", [scene[..., 2 * number : 2 * number + 32] for number in range(4)], "{}.png")
    for number in (1, 2):
        write_picture(Path(f"style{number}.png"), F.interpolate(picture(number + 4), (32, 32)))
    save_file(tiny_state_dict(), "vgg.safetensors")
    return cli


VGG = "--vgg-weights vgg.safetensors"
COMMANDS = {
    "gatys into a folder": (f"stylize film --style style1.png --method gatys --iterations 4 {VGG} -o OUT/", "OUT"),
    "ruder into a file": (f"optimize film style1.png --iterations 4,3 {VGG} -o OUT.mp4", "OUT.mp4"),
}


def fail_at(call: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the keeping of this result fail."""
    keep, calls = Job.keep, 0

    def failing(self: Job, compute: Callable[[], Tensor]) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == call:
            raise error
        return keep(self, compute)

    monkeypatch.setattr(Job, "keep", failing)


def full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "result")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_ends_in_one_line_and_the_same_command_goes_on(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    command, output = COMMANDS[name]
    assert run(command.replace("OUT", "whole")).exit_code == 0
    place = Path(f"{output}.unfinished")
    with monkeypatch.context() as patched:
        fail_at(3, full(), patched)
        failed = run(command)
    assert failed.exit_code == 1
    assert failed.stderr.splitlines() == [
        f"Error: result: No space left on device; what is finished is kept in {place}, and the same command goes on"
    ]
    assert len(list(place.glob("result_*.npy"))) == 2
    assert not Path("OUT.mp4").exists()
    assert not Path("OUT").exists() or len(list(Path("OUT").iterdir())) <= 2
    result = run(command)
    assert (result.exit_code, result.stderr.splitlines()[0]) == (0, "going on: 2 frames were finished")
    assert list(contents(output).values()) == list(contents(output.replace("OUT", "whole")).values())
    assert not place.exists()
    refused = run(command)
    assert (refused.exit_code, refused.stderr) == (2, f"Error: {output} exists; say -y to overwrite it\n")


def test_ctrl_c_says_that_the_same_command_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    command, _ = COMMANDS["gatys into a folder"]
    with monkeypatch.context() as patched:
        fail_at(2, KeyboardInterrupt(), patched)
        stopped = run(command)
    assert stopped.exit_code == 1
    assert "what is finished is kept in OUT.unfinished, and the same command goes on" in stopped.stderr
    assert "going on: 1 frame was finished" in run(command).stderr


@pytest.mark.parametrize("first", [full(), KeyboardInterrupt()])
def test_where_nothing_was_kept_nothing_is_left(
    run: Run, monkeypatch: pytest.MonkeyPatch, first: BaseException
) -> None:
    fail_at(1, first, monkeypatch)
    failed = run(COMMANDS["ruder into a file"][0])
    assert failed.exit_code == 1
    assert "goes on" not in failed.stderr
    assert not list(Path().glob("OUT*"))


@pytest.mark.parametrize("name", COMMANDS)
def test_other_settings_need_y(run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    command, output = COMMANDS[name]
    other = command.replace("--iterations 4", "--iterations 5").replace("style1", "style2")
    assert run(other.replace("OUT", "whole")).exit_code == 0
    with monkeypatch.context() as patched:
        fail_at(3, full(), patched)
        run(command)
    kept = contents(f"{output}.unfinished")
    line = told(run(other))
    assert line.startswith(
        f"Error: {output}.unfinished holds unfinished work of other settings: style was style1.png ("
    )
    assert "iterations was 4" in line
    assert line.endswith("; say -y to begin afresh")
    assert contents(f"{output}.unfinished") == kept
    result = run(f"{other} -y")
    assert (result.exit_code, "going on" in result.stderr) == (0, False)
    assert list(contents(output).values()) == list(contents(output.replace("OUT", "whole")).values())


@pytest.mark.parametrize(
    ("written", "named"), [("style1.png", "style"), ("film/3.png", "input"), ("film/9.png", "input"), ("vgg", "--vgg-")]
)
def test_other_contents_of_the_same_files_are_other_settings(
    run: Run, monkeypatch: pytest.MonkeyPatch, written: str, named: str
) -> None:
    command, _ = COMMANDS["ruder into a file"]
    with monkeypatch.context() as patched:
        fail_at(2, full(), patched)
        run(command)
    if written == "vgg":
        save_file(tiny_state_dict(seed=1), "vgg.safetensors")
    else:
        write_picture(Path(written), F.interpolate(picture(7), (32, 32)))
    refused = run(command)
    assert refused.exit_code == 2
    assert f"other settings: {named}" in refused.stderr
    assert refused.stderr.count(" was ") == 1


def test_y_goes_on_where_the_settings_are_the_same_and_what_changes_no_frame_is_none(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, _ = COMMANDS["ruder into a file"]
    with monkeypatch.context() as patched:
        fail_at(3, full(), patched)
        run(command)
    assert "going on: 2 frames" in run(f"{command} -y --no-audio --set flow.cache=elsewhere -v").stderr


def test_a_default_that_is_given_is_no_other_setting(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    command, _ = COMMANDS["ruder into a file"]
    with monkeypatch.context() as patched:
        fail_at(3, full(), patched)
        run(command)
    assert "gatys.scales was not given, is 2" in run(f"{command} --set gatys.scales=2 --set ruder.long_term=1").stderr
    defaults = "--flow-method deepflow --set ruder.long_term=1 --set gatys.scales=1 --init content --temporal-weight 50"
    assert "going on: 2 frames" in run(f"{command} {defaults}").stderr


def test_a_style_that_was_trained_anew_is_another_style(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is called by its folder, which keeps its name."""

    def train(seed: int) -> None:
        image = F.interpolate(picture(seed), (32, 32))
        save_target(Path("mine/target.safetensors"), tiny_target(image), {})

    command = COMMANDS["ruder into a file"][0].replace("style1.png", "mine")
    Path("mine").mkdir()
    train(seed=7)
    with monkeypatch.context() as patched:
        fail_at(3, full(), patched)
        assert run(command).exit_code == 1
    train(seed=8)
    assert "other settings: style was mine (" in run(command).stderr
    train(seed=7)
    assert "going on: 2 frames" in run(command).stderr


def test_a_file_that_came_meanwhile_is_not_overwritten(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    command, output = COMMANDS["ruder into a file"]
    with monkeypatch.context() as patched:
        fail_at(3, full(), patched)
        run(command)
    Path(output).write_text("mine")
    refused = run(command)
    assert (refused.exit_code, Path(output).read_text()) == (2, "mine")
    assert "going on: 2 frames" in run(f"{command} -y").stderr
    assert Path(output).stat().st_size > 100


def test_what_comes_through_a_pipe_begins_anew(run: Run) -> None:
    arguments = f"optimize - style1.png {VGG} --iterations 4 -o OUT.mp4 --raw-size 32x24 --no-temporal"
    result = done(run(arguments, input=bytes(32 * 24 * 3) * 2))
    assert "note: what comes through a pipe cannot be read again" in result.stderr
    assert not Path("OUT.mp4.unfinished").exists()


def test_flows_that_kills_left_half_written_count_in_the_cache(tmp_path: Path) -> None:
    for name in (".0123456789ab.part", "flow.flo"):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (1, 1))
    os.utime(tmp_path / "flow.flo", (99, 99))
    trim_cache(tmp_path, 150)
    assert [path.name for path in tmp_path.iterdir()] == ["flow.flo"]


ESTIMATE = "flow estimate film -o flow"


def test_flow_of_other_settings_needs_y(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        stop_writing(patched)
        assert run(ESTIMATE).exit_code == 1
    refused = run(f"{ESTIMATE} --size 16")
    assert refused.exit_code == 2
    assert "other settings: size was not given, is 16; say -y to begin afresh" in refused.stderr
    assert run(f"{ESTIMATE} --size 16 -y").exit_code == 0
    assert flow_files.read_flo(Path("flow/forward_3_4.flo")).shape == (1, 2, 16, 16)


def stop_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    write = flow_files.write_mask

    def failing(path: Path, mask: Tensor) -> None:
        if path.name == "reliable_4_3.pgm":
            raise full()
        write(path, mask)

    monkeypatch.setattr(flow_task, "write_mask", failing)


@pytest.mark.parametrize(("lost", "finished"), [("forward_2_3.flo", 2), ("reliable_2_1.pgm", 0)])
def test_flow_that_was_lost_with_the_machine_is_estimated_again(
    run: Run, monkeypatch: pytest.MonkeyPatch, lost: str, finished: int
) -> None:
    assert run(ESTIMATE.replace("-o flow", "-o whole")).exit_code == 0
    with monkeypatch.context() as patched:
        stop_writing(patched)
        assert run(ESTIMATE).exit_code == 1
    Path("flow", lost).write_bytes(b"")
    written: list[str] = []
    write = flow_files.write_flo

    def noted(path: Path, flow: Tensor) -> None:
        if path.parent.name == "flow":
            written.append(path.name)
        write(path, flow)

    monkeypatch.setattr(flow_task, "write_flo", noted)
    assert run(ESTIMATE).exit_code == 0
    assert written[0] == f"forward_{max(1, finished)}_{max(1, finished) + 1}.flo"
    assert contents("flow") == contents("whole")
