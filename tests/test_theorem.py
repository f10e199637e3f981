"""Theorem 1: minimisers lie on the sphere, which points of it have the Gram matrix, and the command."""

import json
import math
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from nststab.cli import group
from nststab.experiments import figure2
from nststab.experiments.figure2 import (
    Case,
    counterexample,
    gram_gaps,
    measure,
    minimise,
    objective,
    plane,
    random_cases,
    random_points,
    style_case,
)
from nststab.experiments.settings import TheoremSettings
from nststab.video.images import write_picture
from tests.conftest import done, told

SETTINGS = TheoremSettings(starts=3)


def double(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_objective_by_hand() -> None:
    """(1 + 4 - 3)² of one channel; Frobenius of [[1, 1], [1, 1]] - I."""
    assert objective(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]])) == 4
    assert objective(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.eye(2)) == 2


@pytest.mark.parametrize("index", range(6))
def test_minimisers_lie_on_the_sphere(index: int) -> None:
    row = measure(random_cases(1)[index], SETTINGS)
    assert row["gram_error"] < 1e-9
    assert row["sphere_distance"] < 1e-9 * row["radius"]
    assert row["radius"] ** 2 == pytest.approx(row["trace"])


def test_minimisers_of_unlike_eigenvalues_lie_on_the_sphere() -> None:
    """As pictures have them: 1 to 1e-5, where L-BFGS alone is slow."""
    basis = torch.linalg.qr(double(16, 16)).Q
    gram = basis @ torch.diag(torch.logspace(-5, 0, 16, dtype=torch.float64)) @ basis.T * 1e7
    found = minimise(1e3 * double(16, 32, seed=1), gram)
    assert float(found.norm()) == pytest.approx(float(gram.trace().sqrt()), rel=1e-12)
    assert float(gram_gaps(found[None], Case("x", gram, 32))) < 1e-12


def test_the_converse_holds_for_one_channel_only() -> None:
    rows = [measure(case, SETTINGS) for case in random_cases(0)[:6]]
    assert [row["converse_holds"] for row in rows] == [row["channels"] == 1 for row in rows]
    for row in rows:
        whole = row["solution_dimension"] == row["sphere_dimension"]
        assert whole == (row["channels"] == 1)
        assert (row["sphere_gap_least"] > 0.05) != whole


def test_the_dimension_of_the_solutions_is_that_of_the_objectives_flat_directions() -> None:
    """The kernel of the Hessian at a minimiser, counted."""
    for channels, positions in ((1, 3), (2, 2), (2, 4), (3, 5)):
        features = double(channels, positions, seed=2)
        gram = features @ features.T
        hessian = torch.autograd.functional.hessian(lambda x, gram=gram: objective(x, gram), features)  # type: ignore[no-untyped-call]
        flat = (torch.linalg.eigvalsh(hessian.reshape(features.numel(), -1)).abs() < 1e-9).sum()
        assert measure(Case("x", gram, positions), SETTINGS)["solution_dimension"] == flat


def test_the_counterexample_by_hand() -> None:
    found = counterexample()
    assert found["radius"] == found["other_radius"] == pytest.approx(math.sqrt(2))
    assert (found["gram"], found["other_gram"]) == ([[1, 0], [0, 1]], [[1, 1], [1, 1]])
    assert found["gap"] == pytest.approx(1)  # √2 / √2


def test_solutions_lie_as_far_apart_as_the_root_of_the_trace() -> None:
    case = random_cases(0)[4]
    small, large = (measure(Case("x", case.gram * factor, 64), SETTINGS) for factor in (1, 100))
    assert large["spread"] == pytest.approx(10 * small["spread"], rel=1e-6)
    assert small["spread"] > small["radius"]


def test_random_points_are_where_they_are_said_to_be() -> None:
    radii = torch.tensor([0.5, 3.0], dtype=torch.float64)
    points = random_points(2, 5, radii, torch.Generator().manual_seed(0))
    assert points.shape == (2, 2, 5)
    torch.testing.assert_close(points.flatten(1).norm(dim=1), radii)


def test_a_styles_gram_matrix_is_multiplied_out() -> None:
    """Divided again by C·H·W it has the trace that gram-trace measures."""
    gram = torch.eye(4)[None] * 0.3
    row = measure(style_case("wave", gram), SETTINGS)
    assert (row["style"], row["gram_trace"]) == ("wave", pytest.approx(1.2))


def test_the_plane_shows_its_circle_and_is_the_same_every_time() -> None:
    found = plane(3)
    assert all(math.hypot(*point) == pytest.approx(1, abs=1e-9) for point in found["minimisers"])
    assert any(abs(math.hypot(*point) - 1) > 0.3 for point in found["starts"])
    assert plane(3) == found
    assert plane(4) != found


def call(*arguments: object) -> Result:
    return CliRunner().invoke(group, ["evaluate", "theorem", *map(str, arguments)])


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "noise.png"
    write_picture(path, torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(0)))
    return path


def test_the_command_gives_the_same_results_twice(
    tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figure2, "random_cases", lambda seed: random_cases(seed)[:4])  # the others take a second
    files = []
    for name in ("a", "b"):
        result = done(call("--styles", picture, "--size", 32, "--starts", 2, "-o", tmp_path / name))
        assert "no frames to stylize" in result.stderr
        files.append([(tmp_path / name / file).read_bytes() for file in ("results.json", "figure.png", "figure.svg")])
    assert files[0] == files[1]
    rows = json.loads(files[0][0])["rows"]
    assert rows[-1]["style"] == "noise"
    assert rows[-1]["sphere_distance"] < 1e-6 * rows[-1]["radius"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [("--starts 1", "--starts"), ("--styles nothing", "no style is named")],
)
def test_bad_input_is_one_line(tmp_path: Path, arguments: str, message: str) -> None:
    assert message in told(call(*arguments.split(), "-o", tmp_path / "out"))
    assert not (tmp_path / "out").exists()
