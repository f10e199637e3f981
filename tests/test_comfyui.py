"""The nodes of ComfyUI, by its documented contract: what they take and give is the library's, bit for bit."""

import importlib.util
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import nststab
from nststab.errors import NststabError
from nststab.frames import Frame
from nststab.methods.deflicker import Deflicker, steadied
from nststab.methods.painter import Painter
from nststab.methods.settings import DeflickerSettings, strength_curve
from tests.conftest import save_frames

PACK = Path(__file__).resolve().parents[1] / "integrations" / "comfyui"
LIGHT = {"style": "light/mosaic", "method": "independent"}
PLAIN = {"style": "the_great_wave", "method": "recurrent", "strength": 1.0, "stroke": 1.0, "work_size": 640}


@pytest.fixture(scope="module")
def pack() -> Iterator[ModuleType]:
    """As ComfyUI loads a folder of custom_nodes: by its path, under a name that is no package's."""
    name = "custom_nodes_x_comfyui"
    spec = importlib.util.spec_from_file_location(name, PACK / "__init__.py", submodule_search_locations=[str(PACK)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    for loaded in [one for one in sys.modules if one.startswith(name)]:
        del sys.modules[loaded]


def batch(count: int = 3, height: int = 33, width: int = 46, seed: int = 0) -> Tensor:
    """A still with noise, of levels that a file can hold; the seed is the noise's."""
    still = F.interpolate(torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(9)), (height, width))
    noise = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))
    return (255 * (0.8 * still + 0.2 * noise)).round().movedim(1, -1).contiguous() / 255


def run(pack: ModuleType, node: str, **inputs: Any) -> Any:
    """Calls a node as ComfyUI does, with what it would fill in, in its inference mode."""
    made = pack.NODE_CLASS_MAPPINGS[node]()
    with torch.inference_mode():
        return getattr(made, made.FUNCTION)(**inputs)


def test_every_node_meets_the_contract(pack: ModuleType) -> None:
    assert pack.NODE_DISPLAY_NAME_MAPPINGS.keys() == pack.NODE_CLASS_MAPPINGS.keys()
    types = {"IMAGE", "MASK", "STRING", "INT", "FLOAT"}
    for node in pack.NODE_CLASS_MAPPINGS.values():
        assert callable(getattr(node, node.FUNCTION))
        assert node.CATEGORY
        assert set(node.RETURN_TYPES) <= types
        assert len(getattr(node, "RETURN_NAMES", node.RETURN_TYPES)) == len(node.RETURN_TYPES)
        assert len(node.OUTPUT_TOOLTIPS) == len(node.RETURN_TYPES)
        inputs = node.INPUT_TYPES()
        assert list(inputs) == ["required", "optional"]
        for kind, options in (one for group in inputs.values() for one in group.values()):
            assert (isinstance(kind, list) and kind) or kind in types
            assert options["tooltip"] or kind == "STRING"
            if kind in ("INT", "FLOAT"):
                assert options["min"] <= options["default"] <= options["max"]
            if isinstance(kind, list):
                assert options.get("default", kind[0]) in kind
        json.dumps(inputs)  # ComfyUI sends them to its page


def test_numbers_are_the_settings_of_the_library(pack: ModuleType) -> None:
    inputs = {name: node.INPUT_TYPES()["required"] for name, node in pack.NODE_CLASS_MAPPINGS.items()}
    bounds = {"strength": ("FLOAT", 1, 0, 1), "stroke": ("FLOAT", 0, 0, 2), "work_size": ("INT", 640, 32, 8192)}
    numbers = [(inputs["NststabStylize"][name], *one) for name, one in bounds.items()]
    for (kind, told), *expected in [*numbers, (inputs["NststabDeflicker"]["strength"], "FLOAT", 1, 0, 1)]:
        assert [kind, told["default"], told["min"], told["max"]] == expected


def test_stylize_paints_what_the_painter_does_frame_after_frame(pack: ModuleType) -> None:
    images = batch()
    (made,) = run(pack, "NststabStylize", images=images, **PLAIN)
    assert made.shape == images.shape
    assert made.dtype == torch.float32
    assert made.is_contiguous()
    assert 0 <= made.min() <= made.max() <= 1
    painter = Painter("the_great_wave")
    expected = [painter.paint(image.movedim(-1, 0)[None]) for image in images]
    assert torch.equal(made, torch.cat(expected).movedim(1, -1))
    (alone,) = run(pack, "NststabStylize", images=images[1:2], **PLAIN)
    assert not torch.equal(alone[0], made[1])  # the second frame of the batch saw the first


def test_a_cut_in_the_batch_begins_anew(pack: ModuleType) -> None:
    left, right = torch.zeros(2, 32, 48, 3), torch.ones(2, 32, 48, 3)
    left[:, :, 24:], right[:, :, 24:] = 1, 0
    (joined,) = run(pack, "NststabStylize", images=torch.cat([left, right]), **PLAIN)
    (second,) = run(pack, "NststabStylize", images=right, **PLAIN)
    assert torch.equal(joined[2:], second)


def test_stylize_mixes_two_styles_of_one_network_with_stroke_and_strength(pack: ModuleType) -> None:
    images = batch(1)
    said = {**PLAIN, **LIGHT, "strength": 0.5, "stroke": 1.5, "second_style": "light/candy", "mix": 0.25}
    (made,) = run(pack, "NststabStylize", images=images, **said)
    names = ["light/mosaic", "light/candy"]
    painter = Painter(names, "independent", style_weights=[0.75, 0.25], strength=0.5, stroke=1.5)
    assert torch.equal(made, painter.paint(images.movedim(-1, 1)).movedim(1, -1))


def test_a_mask_leaves_the_rest_as_it_is_and_holds_for_all_frames(pack: ModuleType) -> None:
    images = batch(2)
    mask = torch.zeros(1, 33, 46)
    mask[..., 23:] = 1
    (made,) = run(pack, "NststabStylize", images=images, mask=mask, **PLAIN)
    (whole,) = run(pack, "NststabStylize", images=images, **PLAIN)
    assert torch.equal(made[:, :, :20], images[:, :, :20])
    assert torch.equal(made[:, :, 26:], whole[:, :, 26:])
    (each,) = run(pack, "NststabStylize", images=images, mask=torch.cat([mask, 1 - mask]), **PLAIN)
    assert torch.equal(each[0], made[0])
    assert torch.equal(each[1, :, 26:], images[1, :, 26:])


def test_deflicker_steadies_as_the_library_does(pack: ModuleType) -> None:
    original, processed = batch(4, 48, 64), batch(4, 48, 64, seed=1)
    for source in (None, original):
        (made,) = run(pack, "NststabDeflicker", processed=processed, strength=0.8, original=source)
        frames = (
            Frame(one.movedim(-1, 0)[None], t, content=None if source is None else source[t].movedim(-1, 0)[None])
            for t, one in enumerate(processed)
        )
        expected = torch.cat(
            [frame.rgb for frame in steadied(frames, Deflicker(DeflickerSettings(strength_curve(0.8))))]
        )
        assert torch.equal(made, expected.movedim(1, -1))
        assert not torch.equal(made, processed)
    (same,) = run(pack, "NststabDeflicker", processed=processed, strength=0.0, original=original)
    assert torch.equal(same, processed)


def test_score_measures_what_the_library_does(pack: ModuleType, tmp_path: Path) -> None:
    original, stylized = batch(3, 48, 64), batch(3, 48, 64, seed=1)
    made = run(pack, "NststabScore", original=original, stylized=stylized)
    for name, images in (("original", original), ("stylized", stylized)):
        save_frames(tmp_path / name, images.movedim(-1, 1))
    scores = nststab.score(tmp_path / "original", [tmp_path / "stylized"])
    table, *figures = made["result"]
    assert table == scores.table()
    assert made["ui"] == {"text": [table]}
    row = scores.clips[0].score.as_row()
    wanted = [row[name] for name in pack.NODE_CLASS_MAPPINGS["NststabScore"].FIGURES]
    assert figures == pytest.approx(wanted, nan_ok=True)
    assert math.isnan(row["style_loss"])


@pytest.mark.parametrize(
    ("node", "inputs", "message"),
    [
        ("Stylize", {"images": torch.zeros(2, 8, 9, 4)}, r"images: expected a batch of RGB .* got \(2, 8, 9, 4\)"),
        ("Stylize", {"images": torch.zeros(0, 8, 9, 3)}, r"got \(0, 8, 9, 3\)"),
        (
            "Stylize",
            {"images": batch(), "mask": torch.ones(1, 8, 9)},
            "mask: expected 46x33 as the images have, got 9x8",
        ),
        ("Stylize", {"images": batch(), "mask": torch.ones(2, 33, 46)}, "mask: expected 3, one for each frame, got 2"),
        ("Stylize", {"images": batch(), "stroke": 2.0}, "stroke and strength have no effect on the_great_wave"),
        ("Stylize", {"images": batch(), "own_style": "nowhere.safetensors"}, "nowhere"),
        ("Deflicker", {"processed": batch(), "strength": 1.0, "original": batch(2)}, "original: expected 3.* got 2"),
        ("Score", {"original": batch(), "stylized": batch(2)}, "stylized: expected 3 frames as original has, got 2"),
        ("Score", {"original": batch(1), "stylized": batch(1)}, "at least two frames"),
    ],
)
def test_wrong_inputs_are_refused_in_words(pack: ModuleType, node: str, inputs: Any, message: str) -> None:
    with pytest.raises((NststabError, OSError), match=message):
        run(pack, f"Nststab{node}", **({**PLAIN, **inputs} if node == "Stylize" else inputs))


def test_the_bar_moves_and_a_user_may_interrupt(pack: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def interrupted() -> None:
        if 2 in seen:
            raise InterruptedError

    def started(total: int) -> SimpleNamespace:
        seen.append(f"of {total}")
        return SimpleNamespace(update_absolute=seen.append)

    for name, holds in (
        ("comfy", {}),
        ("comfy.utils", {"ProgressBar": started}),
        ("comfy.model_management", {"throw_exception_if_processing_interrupted": interrupted}),
    ):
        module = ModuleType(name)
        vars(module).update(holds)
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(InterruptedError):
        run(pack, "NststabStylize", images=batch(4), **PLAIN)
    assert seen == ["of 4", 1, 2]


WORKFLOWS = sorted((PACK / "example_workflows").glob("*.json"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_the_workflows_fit_the_nodes(pack: ModuleType, path: Path) -> None:
    workflow = json.loads(path.read_text("utf-8"))
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for link, source, output, target, place, kind in workflow["links"]:
        out, into = nodes[source]["outputs"][output], nodes[target]["inputs"][place]
        assert link in out["links"]
        assert into["link"] == link
        assert out["type"] == kind
        assert into["type"] in (kind, "*")
    ours = [node for node in nodes.values() if node["type"] in pack.NODE_CLASS_MAPPINGS]
    assert ours
    for node in ours:
        made = pack.NODE_CLASS_MAPPINGS[node["type"]]
        assert [output["type"] for output in node["outputs"]] == list(made.RETURN_TYPES)
        given = [*made.INPUT_TYPES()["required"].items(), *made.INPUT_TYPES()["optional"].items()]
        sockets = {name: kind for name, (kind, _) in given if kind in ("IMAGE", "MASK")}
        assert sockets.items() >= {one["name"]: one["type"] for one in node["inputs"]}.items()
        widgets = [(kind, options) for name, (kind, options) in given if name not in sockets]
        for (kind, options), value in zip(widgets, node["widgets_values"], strict=True):
            if isinstance(kind, list):
                assert value in kind
            elif kind != "STRING":
                assert options["min"] <= value <= options["max"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_the_workflows_run(pack: ModuleType, path: Path) -> None:
    """Node after node as ComfyUI would; its own are stood for by what they say of their inputs and outputs."""
    workflow = json.loads(path.read_text("utf-8"))
    sources = {link: (source, output) for link, source, output, *_ in workflow["links"]}
    clips = iter([batch(2), batch(2, seed=1)])
    made: dict[int, Any] = {}
    for node in workflow["nodes"]:
        inputs = {
            one["name"]: made[sources[one["link"]][0]][sources[one["link"]][1]]
            for one in node["inputs"]
            if one["link"] is not None
        }
        if (kind := pack.NODE_CLASS_MAPPINGS.get(node["type"])) is None:
            made[node["id"]] = [next(clips), None, 25.0] if node["type"] == "GetVideoComponents" else [inputs]
            continue
        given = [*kind.INPUT_TYPES()["required"].items(), *kind.INPUT_TYPES()["optional"].items()]
        names = [name for name, (one, _) in given if one not in ("IMAGE", "MASK")]
        result = run(pack, node["type"], **dict(zip(names, node["widgets_values"], strict=True)), **inputs)
        made[node["id"]] = result["result"] if isinstance(result, dict) else result
    saved, shown = ([made[one["id"]][0] for one in workflow["nodes"] if one["type"] == name] for name in _ENDS)
    assert saved[0]["video"]["images"].shape == (2, 33, 46, 3)
    assert saved[0]["video"]["fps"] == 25.0
    assert "PSNR" in shown[0]["source"]


_ENDS = ("SaveVideo", "PreviewAny")
