"""Makes a study: finds the clips of each sequence, codes them into one video in step, and draws the pairs."""

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex, token_urlsafe
from typing import Any

from torch import Tensor

from nststab.errors import NststabError, SettingError
from nststab.listener import Advance, Listener, reported, silent
from nststab.measure.pairing import Pairing
from nststab.report.recorder import shown_times
from nststab.report.scene import Atlas, data_uri
from nststab.storage.folders import refuse_overwriting, whole_folder
from nststab.study.answers import count_people
from nststab.study.design import FILE, MEDIA, Scene, Study, make_sheets, make_trials
from nststab.study.settings import QUESTIONS, StudySettings
from nststab.styles.source import style_name, style_source
from nststab.video.clip import open_clip
from nststab.video.images import read_picture, resize
from nststab.video.picture_files import sequence_clip, sequences
from nststab.video.timing import Timed

log = logging.getLogger(__name__)

_STYLE_SIZE = 400  # pixels of a style's picture
_CATCH_SCENES = 4
_CLIP_MEGABITS = 8  # a second, of each clip: what is coded anew must flicker as before
_CRF = 16
FLICKER = 0.02  # of white, either way: on white 0.09 of its luminance; a flash as WCAG 2.3.1 has it begins at 0.1
_HELD = Fraction(8, 100)  # seconds that it stays brighter, then darker


@dataclass(frozen=True)
class _Sequence:
    """What is shown of a sequence in a style."""

    name: str
    style: int | None
    input: Path
    clips: Mapping[str, Path]


def make_study(
    input: str | Path,
    clips: Mapping[str, str | Path],
    output: str | Path,
    *,
    styles: Sequence[str | Path] = (),
    settings: StudySettings | None = None,
    overwrite: bool = False,
    progress: Listener = silent,
) -> Study:
    """Writes a study of `clips`, by the names that its results call them, into the folder `output`.

        nststab.study.make_study("clip.mp4", {"ours": "a.mp4", "theirs": "b.mp4"}, "STUDY", styles=["painting.jpg"])

    Where `input` is a folder of sequences, so is each clip, and a sequence has the same name in all of them. Of several
    styles each makes sequences of its own, and `{style}` in a clip's path is its name. Without styles nobody is asked
    which clip matches the style better. The first clip is the one that results compare with each of the others.

    Raises SettingError for names that are wrong; NststabError or OSError where clips do not fit their input.
    """
    settings, output = StudySettings.of(settings), Path(output)
    _check_names(clips)
    _check_output(output, overwrite)
    pictures = [_style(str(style)) for style in styles]
    sequences = list(_sequences(Path(input), clips, [style["name"] for style in pictures]))
    flickering = _flickering(sequences, settings.seed)
    with whole_folder(output) as made:
        (made / MEDIA).mkdir()
        scenes = []
        with reported(progress, "study", None) as advance:
            for number, sequence in enumerate(sequences):
                advance(note=f"{number + 1} of {len(sequences)}, {sequence.name}")
                scenes.append(_scene(sequence, flickering.get(number), made / MEDIA, settings, number, advance))
        trials = make_trials(len(scenes), flickering, list(clips))
        asked = [question for question in QUESTIONS if styles or question != "style"]
        sheets = make_sheets(trials, settings.pairs, settings.seed)
        study = Study(
            token_hex(6), token_urlsafe(16), settings.identity(), asked, list(clips), pictures, scenes, trials, sheets
        )
        study.write(made)
    return study


def _check_names(clips: Mapping[str, str | Path]) -> None:
    if len(clips) < 2:
        raise SettingError(f"clips: expected at least two to compare, got {len(clips)}")
    for name in clips:
        if not name.strip() or not name.isprintable() or len(name) > 80:
            raise SettingError(f"clips: {name!r}: expected a name of 1 to 80 letters that can be printed")


def _check_output(output: Path, overwrite: bool) -> None:
    if not output.exists():
        return
    if not output.is_dir() or (any(output.iterdir()) and not (output / FILE).exists()):
        raise SettingError(f"{output} exists, and is no study")
    if people := count_people(output):
        raise SettingError(f"{output} holds answers of {people} people: name another folder, or remove it")
    refuse_overwriting(output, overwrite)


def _style(text: str) -> dict[str, Any]:
    source = style_source(text)
    path = source.picture or source.shipped
    if path is None:
        raise NststabError(f"the style {text} has no picture to show; give its picture instead")
    picture = resize(read_picture(path).on_white(), _STYLE_SIZE)
    return {
        "name": style_name(text),
        "text": str(Path(text).absolute()) if Path(text).exists() else text,
        "image": data_uri(".jpg", picture),
    }


def _sequences(input: Path, clips: Mapping[str, str | Path], styles: Sequence[str]) -> Iterator[_Sequence]:
    inputs = {name: _clip_of(name, input) for name in sequences(input)}
    several = bool(inputs)
    if len(styles) > 1 and (unstyled := [str(path) for path in clips.values() if "{style}" not in str(path)]):
        raise SettingError(f"clips: of several styles, expected {{style}} in each path, got {', '.join(unstyled)}")
    if not several:
        inputs = {input.name if input.is_dir() else input.stem: input}
    for style, name in enumerate(styles) if styles else [(None, "")]:
        paths = {clip: Path(str(path).replace("{style}", name)) for clip, path in clips.items()}
        for sequence, path in inputs.items():
            found = {clip: _clip_of(sequence, folder) if several else folder for clip, folder in paths.items()}
            yield _Sequence(sequence, style, path, found)


def _clip_of(sequence: str, folder: Path) -> Path:
    clip = sequence_clip(folder, sequence)
    if clip is None:
        raise NststabError(f"{folder}: expected one clip of the sequence {sequence}, got none")
    return clip


def _flickering(sequences: Sequence[_Sequence], seed: int) -> dict[int, str]:
    """The sequences of the catch pairs, and the clip of each."""
    draw = random.Random(f"catch {seed}")
    chosen = sorted(draw.sample(range(len(sequences)), min(_CATCH_SCENES, len(sequences))))
    return {number: draw.choice(list(sequences[number].clips)) for number in chosen}


def _scene(
    sequence: _Sequence, flickering: str | None, folder: Path, settings: StudySettings, number: int, advance: Advance
) -> Scene:
    """Codes a sequence's clips; `flickering` is the one that comes again with planted flicker."""
    from nststab.video.writer import Quality, encode_clip

    source, clips = open_clip(sequence.input), [open_clip(path) for path in sequence.clips.values()]
    times = shown_times(source, settings.seconds)
    smallest = min((source, *clips), key=lambda clip: clip.width * clip.height)
    side = min(settings.size, max(smallest.width, smallest.height))
    pairing = Pairing(source, clips, size=side, limit=len(times))
    names = [*sequence.clips, *([""] if flickering is not None else [])]  # "": the one with planted flicker
    order = random.Random(f"scene {number} {settings.seed}").sample(range(len(names)), len(names))
    atlas = Atlas(1 + len(names), pairing.width, pairing.height, heats=0)

    def pictures() -> Iterator[Timed[Tensor]]:
        for index, (frame, (time, duration)) in enumerate(zip(pairing.original_frames(), times, strict=True)):
            made = pairing.counterparts().stylized
            if flickering is not None:
                made = [*made, with_flicker(made[names.index(flickering)], time)]
            yield atlas.compose([frame.rgb, *(made[place] for place in order)], []), time, duration
            advance(index + 1, len(times))
        pairing.finish()

    end = times[-1][0] + times[-1][1]
    video = encode_clip(pictures(), len(times) / end, Quality(_CRF, _CLIP_MEGABITS * (1 + len(names))))
    media = f"{blake2b(video, digest_size=8).hexdigest()}.mp4"
    (folder / media).write_bytes(video)
    return Scene(
        sequence.name,
        sequence.style,
        media,
        pairing.width,
        pairing.height,
        1.0 if source.source is None else float(source.source.aspect),
        [float(time) for time, _ in times],
        float(end),
        [list(rect) for rect in atlas.clips],
        {names[place]: 1 + rank for rank, place in enumerate(order)},
        str(sequence.input.absolute()),
        {name: str(path.absolute()) for name, path in sequence.clips.items()},
    )


def with_flicker(frame: Tensor, time: Fraction) -> Tensor:
    """The frame (1, 3, H, W) at `time`, a little brighter or darker than it is, in turn."""
    sign = 1 if time // _HELD % 2 else -1
    return frame.clamp(FLICKER, 1 - FLICKER) + sign * FLICKER
