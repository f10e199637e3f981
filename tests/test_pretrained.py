"""--network: torchvision's download, seen through a stand-in for the net."""

import hashlib
import io
import os
import sys
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision.models
from click.testing import CliRunner

from nststab.cli import group
from nststab.networks.pretrained import NETWORKS, pretrained
from nststab.video.images import write_picture


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


def no_network(*_args: Any, **_options: Any) -> None:
    raise URLError("Name or service not known")


def served(monkeypatch: pytest.MonkeyPatch, content: bytes) -> list[str]:
    """Answers every download with `content`, and notes the addresses."""
    asked: list[str] = []

    class Response(io.BytesIO):
        def info(self) -> Message:
            return Message()

    def answer(request: Any, *_args: Any, **_options: Any) -> Response:
        asked.append(request.full_url)
        return Response(content)

    monkeypatch.setattr("torch.hub.urlopen", answer)
    return asked


def file_of(state: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def entry(name: str) -> Any:
    family, member = NETWORKS[name]
    return getattr(torchvision.models, family)[member]


def test_the_addresses_are_torchvisions_and_carry_a_hash() -> None:
    for name in NETWORKS:
        assert entry(name).url.startswith("https://")
        assert torch.hub.HASH_REGEX.search(Path(entry(name).url).name)


def test_downloads_once_and_checks_the_hash(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    weight = torch.rand(4, 3, 3, 3)
    content = file_of({"features.0.weight": weight})
    digest = hashlib.sha256(content).hexdigest()[:8]
    url = f"https://example.org/vgg19-{digest}.pth"
    monkeypatch.setattr("torchvision.models._api.WeightsEnum.url", property(lambda _: url), raising=False)
    asked = served(monkeypatch, content)
    for _ in range(2):
        state = pretrained("vgg19", said.append)
        assert torch.equal(state["features.0.weight"], weight)
    assert asked == [url]
    assert said == [f"downloading vgg19 from {url}"]
    assert [path.name for path in hub.iterdir()] == [Path(url).name]


def test_another_content_is_refused_and_not_kept(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    served(monkeypatch, b"something else")
    with pytest.raises(OSError, match=r"vgg19 cannot be downloaded \(invalid hash value.*vgg_weights=FILE"):
        pretrained("vgg19", said.append)
    assert list(hub.iterdir()) == []


def test_without_a_network_one_line_says_what_to_do(hub: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("torch.hub.urlopen", no_network)
    picture = tmp_path / "picture.png"
    write_picture(picture, torch.rand(1, 3, 32, 32))
    command = ["-q", "optimize", str(picture), str(picture), "-o", str(tmp_path / "out.png"), "--network", "vgg19"]
    result = CliRunner().invoke(group, command)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    url = entry("vgg19").url
    assert f"vgg19 cannot be downloaded (Name or service not known): fetch {url}" in result.stderr
    assert "--vgg-weights FILE" in result.stderr
    assert not list(hub.glob("*"))


def test_a_damaged_file_in_the_cache_is_named(hub: Path) -> None:
    said: list[str] = []
    hub.mkdir(parents=True)
    path = hub / Path(entry("vgg16").url).name
    path.write_bytes(os.urandom(100))
    with pytest.raises(ValueError, match=rf"{path.name} is damaged .*delete it"):
        pretrained("vgg16", said.append)


def test_a_torchvision_of_another_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(OSError, match=r"torchvision cannot be loaded .*vgg_weights=FILE"):
        pretrained("vgg19", said.append)


def test_a_file_and_a_network_exclude_each_other(tmp_path: Path) -> None:
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"")
    picture = tmp_path / "picture.png"
    write_picture(picture, torch.rand(1, 3, 32, 32))
    arguments = ["stylize", str(picture), "--style", str(picture), "--method", "gatys", "-o", str(tmp_path / "o.png")]
    result = CliRunner().invoke(group, [*arguments, "--network", "vgg16", "--vgg-weights", str(weights)])
    assert result.exit_code == 2
    assert "--network and --vgg-weights" in result.stderr
