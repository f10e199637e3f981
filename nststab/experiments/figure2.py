"""Figure 2 and Theorem 1 of Gupta et al. 2017: the minima of the style objective lie on a sphere of radius sqrt(tr G).

The objective is eq. (3) of one layer in feature space, as the paper writes it: ‖ΦΦᵀ - G‖² of features Φ (C, HW), whose
Gram matrix is not divided by anything. Where ΦΦᵀ = G, ‖Φ‖² = tr ΦΦᵀ = tr G: equal Gram matrices lie on the sphere. The
paper claims the converse too, which holds for one channel only: with G go all ΦQ of orthogonal Q (HW, HW), and these
fill the sphere where C = 1, and are a part of it without area where C > 1 (`solution_dimension`). What the paper
concludes needs the first half alone: the solutions are many, and as far from one another as sqrt(tr G) is large.
"""

import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from nststab.errors import SettingError
from nststab.experiments.cast import named_styles
from nststab.experiments.runner import Experiment, Part, Results, Work, run
from nststab.experiments.settings import TheoremSettings
from nststab.listener import Listener, silent
from nststab.networks.perceptual import perceptual_network
from nststab.storage.tables import Json, Row, Table
from nststab.styles.source import style_source

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)
STYLE_LAYER = "relu1_1"
STYLE_POSITIONS = 128
_RANDOM = ((1, 1), (1, 2), (1, 64), (2, 2), (4, 64), (16, 64), (64, 256))  # channels, positions
_SPHERE_POINTS = 200
_PLANE_STARTS = 16
_ITERATIONS = 60
_POLISHING = 40
_RANK = 1e-6  # part of the largest eigenvalue under which one counts as 0: Gram matrices of pictures are float32
_EQUAL = 1e-9  # of Gram matrices in float64, relative


def theorem(
    output: str | Path,
    *,
    styles: Sequence[str | Path] | None = None,
    size: int | None = None,
    starts: int | None = None,
    settings: TheoremSettings | None = None,
    overwrite: bool = False,
    executor: Executor | None = None,
    progress: Listener = silent,
) -> Results:
    """Looks for minimisers of the style objective, and writes what is found to the folder `output`.

        nststab.experiments.theorem("out", styles=["painting.jpg"])

    styles: names, pictures, folders, whose Gram matrices are taken; all that are shipped by default. size, starts: as
    in `TheoremSettings`. Nothing is stylized.

    Raises SettingError for a style with neither a Gram matrix of relu1_1 nor a picture, OSError for missing files.
    """
    chosen = TheoremSettings.of(settings).changed(size=size, starts=starts)
    experiment = Figure2(chosen, tuple(random_cases(chosen.seed)), named_styles(styles))
    return run(experiment, output, overwrite, executor, progress)


@dataclass(frozen=True)
class Figure2(Experiment):
    """Of each Gram matrix what its minimisers are; and the minimisers in a plane, which a figure shows."""

    settings: TheoremSettings
    random: "tuple[Case, ...]"
    texts: Mapping[str, str]
    name, shape = "theorem", (10.0, 3.8)

    @cached_property
    def cases(self) -> "Mapping[str, Case]":
        """The Gram matrices by the names of their parts."""
        network = perceptual_network(torch.device("cpu"))
        found = list(self.random)
        for name, text in self.texts.items():
            target = style_source(text).target(network, (STYLE_LAYER,), self.settings.size)
            if STYLE_LAYER not in target:
                raise SettingError(f"{text} has no Gram matrix of {STYLE_LAYER}; give the style's picture instead")
            found.append(style_case(name, target[STYLE_LAYER]))
        return {f"{number} {case.name}": case for number, case in enumerate(found)}

    def identity(self) -> dict[str, Json]:
        styles = {name: style_source(text).digest(()) for name, text in self.texts.items()}
        return self.settings.identity() | {"styles": styles, "threads": torch.get_num_threads()}

    def parts(self, found: Mapping[str, Json]) -> list[Part]:  # noqa: ARG002
        return [*(Part(name, case) for name, case in self.cases.items()), Part("plane")]

    def announce(self, parts: Sequence[Part]) -> None:
        starts = self.settings.starts
        log.info(f"no frames to stylize: {starts} starts for each of {len(parts)} Gram matrices, some seconds each")

    def measure(self, part: Part, work: Work) -> Json:  # noqa: ARG002
        return plane(self.settings.seed) if part.data is None else measure(part.data, self.settings)

    def rows(self, found: Mapping[str, Json]) -> list[Row]:
        return [found[name] for name in self.cases]

    def more(self, rows: Sequence[Row], found: Mapping[str, Json]) -> dict[str, Json]:  # noqa: ARG002
        return {"plane": found["plane"], "counterexample": counterexample()}

    def table(self, rows: Sequence[Row], more: Mapping[str, Json]) -> Table:  # noqa: ARG002
        """A row for each Gram matrix."""
        lines = [
            [
                f"{row['style']}",
                f"{row['channels']}",
                f"{row['positions']}",
                f"{row['trace']:.4g}",
                f"{row['radius']:.4g}",
                f"{row['sphere_distance'] / row['radius']:.1e}",
                f"{row['gram_error']:.1e}",
                f"{row['spread']:.4g}",
                f"{row['solution_dimension']} of {row['sphere_dimension']}",
                "holds" if row["converse_holds"] else "fails",
                f"{row['sphere_gap']:.2g}",
            ]
            for row in rows
        ]
        figures = ("C", "HW", "tr G", "√tr G", "distance", "Gram error", "spread", "dimensions", "converse", "gap")
        title = "Theorem 1: the minima of the style objective"
        return Table(title, ("Gram matrix", *figures), lines, NOTE.format(_SPHERE_POINTS))

    def draw(self, figure: "Figure", rows: Sequence[Row], more: Mapping[str, Json]) -> None:
        """The objective in one and two dimensions, and what holds of the theorem."""
        line, surface, scatter = figure.subplots(1, 3, width_ratios=(1, 1.05, 1.35))
        _draw_line(line)
        _draw_surface(surface, more["plane"])
        _draw_rows(scatter, rows)


class Case(NamedTuple):
    """A Gram matrix (C, C), float64, not divided, that features (C, positions) are to have."""

    style: str  # or "random"
    gram: Tensor
    positions: int

    @property
    def name(self) -> str:
        return f"{self.style}, C={len(self.gram)}, HW={self.positions}"


def random_cases(seed: int) -> list[Case]:
    """Gram matrices of normal features, from one channel and one position to 64 channels."""
    generator = torch.Generator().manual_seed(seed)
    features = [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in _RANDOM]
    return [Case("random", phi @ phi.T, phi.shape[1]) for phi in features]


def style_case(name: str, normalised: Tensor) -> Case:
    """Of a style's Gram matrix (1, C, C) divided by C·H·W, the one that `STYLE_POSITIONS` positions like it have."""
    gram = normalised[0].double().cpu()
    return Case(name, gram * len(gram) * STYLE_POSITIONS, STYLE_POSITIONS)


def objective(features: Tensor, gram: Tensor) -> Tensor:
    """‖ΦΦᵀ - G‖², Frobenius: eq. (3) without its factor, of Φ (..., C, HW) and G (C, C)."""
    return (features @ features.mT - gram).square().sum((-2, -1))


def random_points(channels: int, positions: int, radii: Tensor, generator: torch.Generator) -> Tensor:
    """Random directions in the space of features, as far from 0 as `radii` (K) say: (K, C, HW), float64."""
    points = torch.randn(len(radii), channels, positions, dtype=torch.float64, generator=generator)
    scaled: Tensor = points * (radii / points.flatten(1).norm(dim=1)).view(-1, 1, 1)
    return scaled


def minimise(start: Tensor, gram: Tensor) -> Tensor:
    """A minimiser of `objective` from features (C, HW), both float64: by L-BFGS, the last digits by Gauss and Newton.

    L-BFGS alone comes to within 1e-4 of the radius where the eigenvalues of G are as unlike as those of pictures. The
    trace is scaled to 1 meanwhile, which changes no minimiser but makes the tolerances relative.
    """
    radius = gram.trace().sqrt()
    target = gram / gram.trace()
    features = (start / radius).clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [features],
        max_iter=_ITERATIONS,
        tolerance_grad=1e-14,
        tolerance_change=0,
        history_size=50,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        optimizer.zero_grad()
        with torch.enable_grad():
            value = objective(features, target)
        torch.autograd.backward(value)
        return float(value.detach())

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return _polished(features.detach(), target) * radius


def _polished(features: Tensor, gram: Tensor) -> Tensor:
    """The best after Gauss-Newton steps, the shortest δΦ that solve δΦ Φᵀ + Φ δΦᵀ = G - ΦΦᵀ.

    A step may go too far along an eigenvector that L-BFGS has hardly begun with; from there each halves the excess.
    """
    best, lowest = features, objective(features, gram)
    for _ in range(_POLISHING):
        features = features + (gram - features @ features.mT) @ torch.linalg.pinv(features).mT / 2
        value = objective(features, gram)
        if value < lowest:
            best, lowest = features, value
    return best


def starts_and_minimisers(case: Case, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Starts in random directions at 0.1 to 2 radii of the sphere, and the minimisers found: (count, C, HW) each."""
    radius = case.gram.trace().sqrt()
    distances = radius * (0.1 + 1.9 * torch.rand(count, dtype=torch.float64, generator=generator))
    starts = random_points(len(case.gram), case.positions, distances, generator)
    return starts, torch.stack([minimise(start, case.gram) for start in starts])


def measure(case: Case, settings: TheoremSettings) -> dict[str, Any]:
    """A row: how far minimisers are from the sphere and from one another, and points of the sphere from the Gram."""
    generator = torch.Generator().manual_seed(settings.seed)
    channels, trace = len(case.gram), float(case.gram.trace())
    radius = math.sqrt(trace)
    minimisers = starts_and_minimisers(case, settings.starts, generator)[1]
    radii = torch.full((_SPHERE_POINTS,), radius, dtype=torch.float64)
    gaps = gram_gaps(random_points(channels, case.positions, radii, generator), case)
    pairs = [float((first - second).norm()) for first, second in itertools.combinations(minimisers, 2)]
    eigenvalues = torch.linalg.eigvalsh(case.gram)
    rank = int((eigenvalues > _RANK * eigenvalues[-1]).sum())
    return {
        "style": case.style,
        "channels": channels,
        "positions": case.positions,
        "trace": trace,
        "gram_trace": trace / (channels * case.positions),  # divided by C·H·W, as gram-trace measures it
        "radius": radius,
        "starts": settings.starts,
        "sphere_distance": float((minimisers.flatten(1).norm(dim=1) - radius).abs().max()),
        "gram_error": float(gram_gaps(minimisers, case).max()),
        "spread": math.fsum(pairs) / len(pairs),
        "rank": rank,
        "solution_dimension": case.positions * rank - rank * (rank + 1) // 2,
        "sphere_dimension": channels * case.positions - 1,
        "converse_holds": bool(gaps.max() < _EQUAL),
        "sphere_gap": float(gaps.median()),
        "sphere_gap_least": float(gaps.min()),
    }


def gram_gaps(features: Tensor, case: Case) -> Tensor:
    """‖ΦΦᵀ - G‖ / ‖G‖ of features (K, C, HW): (K)."""
    gaps: Tensor = objective(features, case.gram).sqrt() / case.gram.norm()
    return gaps


def counterexample() -> dict[str, Any]:
    """Two points of one sphere with different Gram matrices, of two channels and two positions: whole numbers."""
    features, other = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    gram, other_gram = features @ features.T, other @ other.T
    return {
        "features": features.tolist(),
        "other": other.tolist(),
        "gram": gram.tolist(),
        "other_gram": other_gram.tolist(),
        "radius": float(features.norm()),
        "other_radius": float(other.norm()),
        "gap": float((other_gram - gram).norm() / gram.norm()),
    }


def plane(seed: int) -> dict[str, list[list[float]]]:
    """Starts and minimisers of the objective of one channel, two positions and trace 1, which a figure can show."""
    case = Case("plane", torch.ones(1, 1, dtype=torch.float64), 2)
    starts, minimisers = starts_and_minimisers(case, _PLANE_STARTS, torch.Generator().manual_seed(seed))
    return {"starts": starts[:, 0].tolist(), "minimisers": minimisers[:, 0].tolist()}


# what people see

NOTE = (
    "Minimisers of ‖ΦΦᵀ - G‖² (Gram matrices not divided by C·H·W) from random starts. distance: largest |‖Φ‖ - √tr G| "
    "over √tr G; Gram error: largest ‖ΦΦᵀ - G‖ / ‖G‖; spread: mean distance of two minimisers. dimensions: of the set "
    "of solutions, and of the sphere that it lies on. gap: median ‖ΦΦᵀ - G‖ / ‖G‖ of {} random points of that sphere. "
    "The converse of Theorem 1, that every point of the sphere has the Gram matrix, holds for one channel only."
)


def _draw_line(axes: "Axes") -> None:
    x = torch.linspace(-2.6, 2.6, 521, dtype=torch.float64)
    for trace, color in ((1.0, "#56B4E9"), (4.0, "#0072B2")):
        axes.plot(x, (x**2 - trace) ** 2, color=color, label=f"tr G = {trace:g}")
        axes.plot([-math.sqrt(trace), math.sqrt(trace)], [0, 0], "o", color=color, markersize=5, clip_on=False)
    axes.set_ylim(0, 20)
    axes.set_xlabel("Φ: one channel, one position")
    axes.set_title("(Φ² - G)²")
    axes.legend(loc="upper center")


def _draw_surface(axes: "Axes", found: Mapping[str, Sequence[Sequence[float]]]) -> None:
    from matplotlib.patches import Circle

    values = torch.linspace(-1.9, 1.9, 381, dtype=torch.float64)
    height = (values[:, None] ** 2 + values**2 - 1) ** 2
    # of the root, or the valley is one colour; as pixels, whose outlines would fill most of the SVG
    axes.contourf(values, values, height.sqrt(), levels=18, cmap="Blues_r", zorder=-20)
    axes.set_rasterization_zorder(-10)
    axes.add_patch(Circle((0, 0), 1, fill=False, color="white", linewidth=1.2))
    for (x, y), (u, v) in zip(found["starts"], found["minimisers"], strict=True):
        axes.annotate(
            "", (u, v), (x, y), arrowprops={"arrowstyle": "->", "color": "#E69F00", "shrinkA": 0, "shrinkB": 1}
        )
    axes.plot(*zip(*found["minimisers"], strict=True), "o", color="#D55E00", markersize=4)
    axes.set_aspect("equal")
    axes.set(xlim=(-1.9, 1.9), ylim=(-1.9, 1.9), xlabel="Φ₁: one channel, two positions", ylabel="Φ₂")
    axes.grid(False)
    axes.set_title("(Φ₁² + Φ₂² - 1)²")


def _draw_rows(axes: "Axes", rows: Sequence[Row]) -> None:
    places = list(range(len(rows)))
    floor = 1e-17  # where zeros are shown
    distances = [max(floor, row["sphere_distance"] / row["radius"]) for row in rows]
    gaps = [max(floor, row["sphere_gap"]) for row in rows]
    axes.semilogy(places, gaps, "s", color="#D55E00", label="Gram gap of random points of the sphere")
    axes.semilogy(places, distances, "o", color="#0072B2", label="distance of minimisers to the sphere")
    axes.set_ylim(floor / 3, 1e4)
    axes.set_ylabel("relative to √tr G and ‖G‖; zeros at the bottom")
    names = [
        f"C={row['channels']}, HW={row['positions']}" + ("" if row["style"] == "random" else f"\n{row['style']}")
        for row in rows
    ]
    axes.set_xticks(places, names, rotation=45, ha="right", fontsize=7)
    axes.set_title("relative gaps: the converse fails for C > 1")
    axes.legend(loc="upper left", fontsize=7)
