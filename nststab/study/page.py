"""The page that asks: one file of HTML beside the videos, on a server of ours or on any other."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nststab.errors import SettingError
from nststab.report.document import document, part
from nststab.storage.folders import refuse_overwriting, whole_folder
from nststab.study.design import MEDIA, Sheet, Study, read_study
from nststab.study.settings import QUESTIONS

TITLE = "Which of two clips?"
_PACKAGE = "nststab.study"
_ANSWERING = 12  # seconds to answer the questions on a pair, beside watching it twice


def study_page(study: Study, packed: bool) -> str:
    """The page; a packed one holds all sheets, and keeps its answers. It knows neither clips' names nor catch pairs."""
    data: dict[str, Any] = {
        "id": study.id,
        "questions": [[key, QUESTIONS[key]] for key in study.questions],
        "styles": [{"image": style["image"]} for style in study.styles],
        "scenes": [
            {
                name: getattr(scene, name)
                for name in ("media", "width", "height", "aspect", "times", "end", "rects", "style")
            }
            for scene in study.scenes
        ],
        "pairs": max(map(len, study.sheets)),
        "minutes": minutes(study),
    }
    if packed:
        data["sheets"] = [sheet_trials(study, sheet) for sheet in study.sheets]
    return document(
        part("study.html", _PACKAGE),
        style=part("base.css") + part("study.css", _PACKAGE),
        script=[
            *(part(f"{name}.js") for name in ("dom", "player")),
            *(part(f"{name}.js", _PACKAGE) for name in ("store", "trial", "study")),
        ],
        data=data,
        title=TITLE,
        fetches=True,
    )


def sheet_trials(study: Study, sheet: Sheet) -> list[tuple[int, int, int]]:
    """A sheet as the page is told it: of each pair the scene and the rectangles on the left and on the right."""
    return [(study.trials[trial].scene, *study.rects(trial, swapped)) for trial, swapped in sheet]


def minutes(study: Study) -> int:
    """About how long a person takes."""
    ends: Mapping[int, float] = {number: scene.end for number, scene in enumerate(study.scenes)}
    longest = max(sum(2 * ends[study.trials[trial].scene] + _ANSWERING for trial, _ in sheet) for sheet in study.sheets)
    return max(1, round(longest / 60))


def pack_study(folder: str | Path, output: str | Path, *, overwrite: bool = False) -> Path:
    """Writes the page and its videos into the folder `output`, for any static host; who judges hands in a code.

    Raises SettingError where `output` exists, unless it may be overwritten; NststabError where `folder` is no study.
    """
    study, output = read_study(folder), Path(output)
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        refuse_overwriting(output, overwrite)
        if not (output / "index.html").is_file():
            raise SettingError(f"{output} exists, and is no packed study")
    with whole_folder(output) as made:
        (made / "index.html").write_text(study_page(study, packed=True), "utf-8")
        shutil.copytree(Path(folder) / MEDIA, made / MEDIA)
    return output / "index.html"
