"""The layers of the design, read off the imports: who may import whom, and what an import may cost."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]

# 1: the command line. 2: what a user asks for. 3: stylizers, training, measures. 4: networks and what touches files.
# 5: tensors in, tensors out. Imports run to the same or a higher number, without circles.
LAYERS = {
    "cli": 1,
    "tasks": 2,
    "experiments": 2,
    "study": 2,
    "methods": 3,
    "baselines": 3,
    "train": 3,
    "measure": 3,
    "report": 3,
    "networks": 4,
    "engines": 4,
    "styles": 4,
    "video": 4,
    "flow": 4,
    "datasets": 4,
    "storage": 4,
    "color": 5,
    "errors": 5,
    "frames": 5,
    "listener": 5,
    "losses": 5,
    "memory": 5,
    "tiled_loss": 5,
    "metrics": 5,
    "settings": 5,
    "shots": 5,
    "startup": 5,
    "vgg": 5,
    "warp": 5,
}

# Foreign packages that only some may import. Part of the name after "nststab."; a package stands for all its modules.
OWNERS = {
    "av": {"video"},
    "cv2": {"flow", "methods", "video"},
    "pyvirtualcam": {"video"},
    "PIL": {"video", "report"},
    "click": {"cli"},
    "rich": {"cli"},
    "openvino": {"engines"},
    "onnx": {"engines"},
    "onnxruntime": {"engines"},
    "safetensors": {"networks"},
    "skimage": {"metrics"},
    "matplotlib": {"experiments"},
}


FILES_AND_PROCESSES = {"pathlib", "os", "io", "json", "pickle", "tempfile", "shutil", "subprocess", "urllib"}
# the trainer makes networks from nothing
KNOW_NETWORKS = {"nststab.tasks.train", "nststab.tasks.train_network"}


class Import(NamedTuple):
    """One import statement: the absolute dotted name, and where it stands."""

    source: str  # e.g. "nststab.cli.train"
    target: str  # e.g. "nststab.train.loop.fit" for `from nststab.train.loop import fit`
    place: str  # "module", "function" or "typing"


def module_name(path: Path) -> str:
    relative = path.relative_to(ROOT).with_suffix("")
    parts = [part for part in relative.parts if part != "__init__"]
    return ".".join(["nststab", *parts] if parts[0] == "baselines" else parts)


# nststab/baselines/__init__.py only points to baselines/
FILES = sorted(path for folder in ("nststab", "baselines") for path in (ROOT / folder).rglob("*.py"))
MODULES = {module_name(path): path for path in FILES}


def imports(name: str) -> Iterator[Import]:
    path = MODULES[name]
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]

    def visit(node: ast.AST, place: str) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            inside = place
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                inside = "function"
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                inside = "typing"
            if isinstance(child, ast.Import):
                yield from (Import(name, alias.name, place) for alias in child.names)
            if isinstance(child, ast.ImportFrom):
                base = [*package[: len(package) + 1 - child.level]] if child.level else []
                base += [child.module] if child.module else []
                yield from (Import(name, ".".join([*base, alias.name]), place) for alias in child.names)
            yield from visit(child, inside)

    return visit(ast.parse(path.read_text("utf-8")), "module")


ALL = [statement for name in MODULES for statement in imports(name)]
INTERNAL = [statement for statement in ALL if statement.target.split(".")[0] == "nststab"]


def part(name: str) -> str:
    """What the design's tables call it: "cli" of "nststab.cli.train"; empty for the package itself."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def imported_module(target: str) -> str:
    """The longest part of an imported name that is a module: `from nststab.vgg import VGG` is "nststab.vgg"."""
    while target not in MODULES:
        target = target.rpartition(".")[0]
    return target


def test_reads_the_imports_it_must_see() -> None:
    assert Import("nststab.losses", "nststab.warp.warp", "module") in ALL
    assert Import("nststab.baselines.ruder", "nststab.flow.pairs.flow_ahead", "module") in ALL
    assert any(
        statement.target == "cv2" and statement.place == "function" for statement in imports("nststab.flow.estimators")
    )
    assert any(statement.place == "typing" for statement in imports("nststab.cli.common"))


def test_every_module_has_a_layer() -> None:
    assert {part(name) for name in MODULES} - {""} == set(LAYERS)


def test_imports_run_downwards() -> None:
    for statement in INTERNAL:
        own, target = part(statement.source), part(imported_module(statement.target))
        assert not own or not target or LAYERS[target] >= LAYERS[own], statement


def test_imports_form_no_circle() -> None:
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for statement in INTERNAL:
        target = imported_module(statement.target)
        if statement.place != "typing" and target != statement.source:
            graph[statement.source].add(target)
    list(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize("package", OWNERS)
def test_foreign_packages_have_one_user(package: str) -> None:
    users = {part(statement.source) for statement in ALL if statement.target.split(".")[0] == package}
    assert users == OWNERS[package]


def test_opencv_is_imported_where_it_is_called() -> None:
    assert {statement.place for statement in ALL if statement.target.split(".")[0] == "cv2"} == {"function"}


def test_gatys_does_not_know_ruder() -> None:
    assert not any("ruder" in statement.target for statement in imports("nststab.baselines.gatys"))


def test_only_networks_know_their_widths() -> None:
    """Whoever needs a network asks `networks` for it: a new architecture is one file and a row of the registry."""
    asked = {"widths", "margin", "kind", "blocks"}
    for name in MODULES:
        if part(name) in ("networks", "styles") or name in KNOW_NETWORKS:
            continue
        for node in ast.walk(ast.parse(MODULES[name].read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in asked and isinstance(node.value, ast.Attribute):
                assert node.value.attr != "config", f"{name}:{node.lineno} asks for a network's {node.attr}"
        assert not any(one.target.endswith("NetworkConfig") for one in imports(name)), name


@pytest.mark.parametrize("name", [name for name in MODULES if LAYERS.get(part(name)) == 5 and name != "nststab.memory"])
def test_the_ground_touches_no_files(name: str) -> None:
    foreign = {statement.target.split(".")[0] for statement in ALL if statement.source == name}
    # settings hold paths, startup the environment
    allowed = {"nststab.settings": {"pathlib"}, "nststab.startup": {"os"}}.get(name, set())
    assert not (foreign & FILES_AND_PROCESSES) - allowed
    assert "open" not in calls(name)


def test_the_library_does_not_print() -> None:
    assert [name for name in MODULES if part(name) != "cli" and calls(name) & {"print", "input", "exit"}] == []


def calls(name: str) -> set[str]:
    tree = ast.parse(MODULES[name].read_text("utf-8"))
    nodes = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {node.id for node in nodes if isinstance(node, ast.Name)}


def test_a_command_imports_its_task_when_it_runs() -> None:
    """Else `nststab --help` waits for torch: at the top of a command stand click, the command line and settings."""
    light = {
        "nststab",
        "nststab.errors",
        "nststab.listener",
        "nststab.settings",
        "nststab.startup",
        "nststab.storage.folders",
    }
    for statement in ALL:
        if part(statement.source) == "cli" and statement.place == "module":
            foreign = statement.target.split(".")[0]
            assert foreign not in ("torch", "torchvision", "numpy", "scipy", "rich", "matplotlib"), statement
            module = imported_module(statement.target) if foreign == "nststab" else ""
            settings = module.rpartition(".")[2] == "settings" or part(module) == "cli"
            assert not module or module in light or settings, statement


def run(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def test_importing_nststab_and_its_cli_is_cheap() -> None:
    heavy = "{'torch', 'numpy', 'scipy', 'cv2', 'av', 'PIL', 'skimage', 'safetensors', 'rich', 'matplotlib'}"
    assert run(f"import sys, nststab; print(sorted(sys.modules.keys() & ({heavy} | {{'click'}})))") == "[]\n"
    commands = (
        "import nststab.cli.compare, nststab.cli.demo, nststab.cli.doctor, nststab.cli.flow, nststab.cli.optimize"
    )
    commands += ", nststab.cli.score, nststab.cli.study, nststab.cli.styles, nststab.cli.stylize, nststab.cli.train"
    commands += ", nststab.cli.live, nststab.study.page"  # a server starts at once
    assert run(f"import sys, nststab.cli; {commands}; print(sorted(sys.modules.keys() & {heavy}))") == "[]\n"


def test_what_measures_in_other_processes_does_not_import_what_draws() -> None:
    parts = ("stability", "figure2", "figure3", "figure6", "table2", "movement", "long_runs", "runner")
    modules = ", ".join(f"nststab.experiments.{part}" for part in parts)
    assert run(f"import sys, {modules}; print('matplotlib' in sys.modules)") == "False\n"


def test_the_networks_run_without_media_libraries() -> None:
    """On a bare GPU machine neither av nor cv2 is installed; folders of pictures work there, and so does training."""
    code = "import sys; sys.modules |= dict.fromkeys(('av', 'cv2', 'click', 'rich'))\n"
    code += (
        "import nststab.styles.shipped, nststab.video.clip, nststab.shots, nststab.train.stages, nststab.flow.pairs\n"
    )
    code += "import nststab.report.layout\n"
    code += "from nststab.methods.feed_forward import FeedForward; print(FeedForward.__name__)"
    assert run(code) == "FeedForward\n"


def test_the_baselines_are_importable_under_their_full_name_only() -> None:
    code = "import nststab.baselines; print(nststab.baselines.__path__[0])\n"
    code += "try: import baselines\nexcept ImportError as error: print(error)"
    path, message = run(code).splitlines()
    assert Path(path) == ROOT / "baselines"
    assert message == "import these modules as nststab.baselines"


def test_the_wheel_holds_every_package_and_its_data() -> None:
    """packages stand by hand in pyproject.toml, because packages.find loses nststab.baselines."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert set(settings["packages"]) == packages
    shipped = settings["package-data"]["nststab"]
    data = {
        path.relative_to(ROOT / "nststab")
        for path in (ROOT / "nststab").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert data == {
        file.relative_to(ROOT / "nststab")
        for glob in shipped
        for file in (ROOT / "nststab").glob(glob)
        if file.is_file()
    }


def test_the_readme_shows_every_room() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    house = readme[readme.index("## The house") :]
    for room in {part(name) for name in MODULES if MODULES[name].name == "__init__.py"} - {""}:
        assert f"{room}/" in house, room
    assert len(readme.splitlines()) <= 250
