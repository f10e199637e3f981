"""Table 1's rows from figures of sequences, by hand: means, intervals, the gain, the table, the figure."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nststab.experiments import paper, stability
from nststab.experiments.figures import drawing
from nststab.measure import rows as measured_rows
from nststab.measure.intervals import bootstrap_interval
from nststab.measure.stability import CONTENT, sanity_checks

BLURRED = "blurred (sigma 1)"
Measured = Mapping[str, Mapping[str, Mapping[str, Any]]]


def figures(psnr: float | None, style_loss: float = 0.5, n: int = 3) -> dict[str, Any]:
    ssim = None if psnr is None else psnr / 50
    return {"n": n, "psnr": psnr, "ssim": ssim, "flicker": 5.1, "style_loss": style_loss, "content_loss": 1.0}


def clip(independent: float | None, recurrent: float | None, ceiling: float = 40) -> dict[str, dict[str, Any]]:
    cheats = {name: figures(ceiling - 5, 2.0) for name in measured_rows.CHEATS}
    return {
        CONTENT: figures(ceiling, 2.5),
        "independent": figures(independent),
        **cheats,
        "recurrent": figures(recurrent, 0.6),
    }


WAVE = {"swan": clip(20, 25), "dog": clip(22, 26), "camel": clip(24, 30)}
NIGHT = {"swan": clip(30, 31), "dog": clip(26, 28), "camel": clip(25, 25)}


def style_rows(style: str, of: Measured, seed: int = 0) -> list[Any]:
    return [stability.with_paper(row) for row in measured_rows.style_rows(style, of, seed)]


def rows() -> list[Any]:
    return [*style_rows("wave", WAVE, 3), *style_rows("night", NIGHT, 3)]


def test_a_row_is_the_mean_of_its_sequences() -> None:
    found = style_rows("wave", WAVE, 3)
    assert [row["method"] for row in found] == [CONTENT, "independent", "recurrent", *measured_rows.CHEATS]
    row = found[1]
    assert (row["style"], row["psnr"], row["ssim"], row["n"]) == ("wave", 22, pytest.approx(0.44), 9)
    assert row["psnr_interval"] == bootstrap_interval([20, 22, 24], 3)
    assert row["ssim_interval"] == bootstrap_interval([0.4, 0.44, 0.48], 3)
    assert row["style_share"] == 0.5 / 2.5
    assert row["flicker"] == 5.1
    assert [part["sequence"] for part in row["sequences"]] == ["swan", "dog", "camel"]
    assert row["sequences"][1] == {
        "sequence": "dog",
        "n": 3,
        "psnr": 22,
        "ssim": 0.44,
        "flicker": 5.1,
        "style_loss": 0.5,
        "content_loss": 1.0,
    }
    assert found[0]["style_share"] == 1


def test_means_are_over_frames_then_videos_then_styles() -> None:
    means = {row["method"]: row for row in stability.mean_rows(rows(), 3)}
    assert means["independent"]["psnr"] == (22 + 27) / 2
    assert means["independent"]["styles"] == 2
    assert means["independent"]["n"] == 18
    # of each sequence the mean of the styles, so that a style is no sample of a sequence
    assert means["independent"]["psnr_interval"] == bootstrap_interval([25, 24, 24.5], 3)


def test_the_gain_is_paired_and_stands_beside_the_papers() -> None:
    found = stability.gain(rows(), 3)
    assert found is not None
    differences = [3.0, 3.0, 3.0]  # of each sequence: (5 + 1) / 2, (4 + 2) / 2, (6 + 0) / 2
    assert found["psnr"] == 3
    assert found["psnr_interval"] == bootstrap_interval(differences)
    assert found["psnr_interval"].low == 3
    assert found["ssim"] == pytest.approx(3 / 50)
    assert found["style_loss_change"] == pytest.approx(0.2)
    assert (found["paper"]["psnr"], found["paper"]["ssim"]) == paper.GAIN


def test_one_method_alone_has_no_gain() -> None:
    alone = {name: {key: of[key] for key in of if key != "recurrent"} for name, of in WAVE.items()}
    found = style_rows("wave", alone)
    assert stability.gain(found) is None
    assert "gains" not in stability.table(found, stability.mean_rows(found), None, "independent").note


def test_a_sequence_without_room_for_a_patch_counts_in_no_mean() -> None:
    found = style_rows("wave", {**WAVE, "crowd": clip(None, None)}, 3)
    assert found[1]["psnr"] == 22
    assert found[1]["psnr_interval"] == bootstrap_interval([20, 22, 24], 3)
    assert math.isnan(found[1]["sequences"][3]["psnr"])
    gained = stability.gain(found, 3)
    assert gained is not None
    assert gained["psnr"] == 5


def test_nothing_measured_at_all_is_a_dash_and_draws(tmp_path: Path) -> None:
    found = style_rows("wave", {"crowd": clip(None, None)})
    means = stability.mean_rows(found)
    assert stability.table(found, means, stability.gain(found), "independent").rows[1][1:3] == ("-", "-")
    with drawing(tmp_path) as figure:
        stability.draw(figure, found, means)


def test_the_table_shows_intervals_and_means() -> None:
    found = rows()
    means = stability.mean_rows(found)
    table = stability.table(found, means, stability.gain(found), "independent")
    assert len(table.rows) == 6 + 6 + 6
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert table.rows[0][0] == "wave, input"
    assert table.rows[1][:2] == ("wave, independent", "22.00 [20.00, 24.00]")
    assert table.rows[1][3:] == ("-", "5.10", "0.500", "0.200", "1.000", "9")
    assert table.rows[13][0] == "mean of the styles, independent"
    assert "gains 3.00 [3.00, 3.00] dB and 0.060 [0.060, 0.060] SSIM" in table.note
    assert "at +20.0% style loss; the paper's gains 0.48 dB and 0.09" in table.note


def test_the_table_of_one_style_has_no_means() -> None:
    found = style_rows("wave", {"swan": WAVE["swan"]})
    table = stability.table(found, stability.mean_rows(found), stability.gain(found), "independent")
    assert "wave" in table.title
    assert [row[0] for row in table.rows][:2] == ["input", "independent"]
    assert table.rows[1][1] == "20.00"  # one sequence has no interval


def test_the_figure_shows_every_method_and_the_ceiling(tmp_path: Path) -> None:
    found = rows()
    with drawing(tmp_path) as figure:
        stability.draw(figure, found, stability.mean_rows(found))
        psnr, ssim, share = figure.axes
    text = (tmp_path / "figure.svg").read_text()
    for shown in ("wave", "night", "mean of the styles", "independent", "recurrent", BLURRED, "PSNR (dB)"):
        assert shown in text
    ceilings = [next(line for line in axes.lines if line.get_label() == CONTENT) for axes in (psnr, ssim, share)]
    assert [np.asarray(line.get_xdata())[0] for line in ceilings] == pytest.approx([40, 0.8, 1])
    (recurrent,) = (bars for bars in psnr.containers if bars.get_label() == "recurrent")
    assert list(recurrent[0].get_xdata()) == [27, 28, 27.5]
    segments = recurrent[2][0].get_segments()
    assert list(segments[0][:, 0]) == pytest.approx(list(bootstrap_interval([25, 26, 30], 3)))


def test_the_cheats_are_those_that_are_made() -> None:
    assert tuple(sanity_checks([], [])) == measured_rows.CHEATS


def test_the_papers_cells_stand_beside_ours(tmp_path: Path) -> None:
    """Of The Wave 24.3 / 0.47 and 24.8 / 0.54 (Gupta et al. 2017, Table 1); the mean is that of their two styles."""
    found = [*style_rows("the_great_wave", WAVE), *style_rows("mosaic", NIGHT)]
    means = stability.mean_rows(found)
    table = stability.table(found, means, stability.gain(found), "independent")
    shown = {row[0]: row[table.columns.index("paper's")] for row in table.rows}
    assert shown["the_great_wave, independent"] == "24.3 / 0.47"
    assert shown["the_great_wave, recurrent"] == "24.8 / 0.54"
    assert shown["mosaic, recurrent"] == "24.0 / 0.39"
    assert shown["the_great_wave, input"] == shown["mosaic, blurred (sigma 1)"] == "-"
    assert {row["method"]: row["paper"] for row in means}["independent"] == pytest.approx({"psnr": 24, "ssim": 0.39})
    with drawing(tmp_path) as figure:
        stability.draw(figure, found, means)
        crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert [np.asarray(line.get_xdata()).tolist() for line in crosses] == [[24.3, 23.7, 24.0], [24.8, 24.0, 24.4]]


def test_the_papers_gain_is_the_mean_of_its_differences() -> None:
    assert pytest.approx((0.48, 0.09)) == paper.GAIN
