"""What a video file holds beside picture and sound: title and chapters are carried along, the rest is told."""

from collections import Counter
from typing import Any

from av.stream import Disposition

from nststab.video.reader import VideoReader, open_input, video_stream

_OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder"}  # tags that its writer sets


def carry_tags(source: VideoReader, output: Any, audio: bool) -> list[str]:
    """Gives an output container the title, the chapters and other tags of the source; says what is left out.

    Chapters are cut with an excerpt. Without `audio` all sound is left out on purpose.
    """
    with open_input(source.path) as container:
        told = {name: text for name, text in container.metadata.items() if name.lower() not in _OF_THE_FILE}
        output.metadata.update(told)
        output.set_chapters([part for chapter in container.chapters() if (part := _shown(chapter, source)) is not None])
        taken = [video_stream(container, source.path)]
        taken += [container.streams.best("audio")] if audio and source.has_audio else container.streams.audio
        left = Counter(_name(stream) for stream in container.streams if stream not in taken)
        if container.chapters():  # MP4 shows them in a track of their own
            left["data track", ""] -= 1
    said = ", ".join(f"{count} {kind}{'s' * (count > 1)}{of}" for (kind, of), count in left.items() if count > 0)
    return [f"{source.path.name} has more than is carried along: {said}"] if said else []


def _shown(chapter: dict[str, Any], source: VideoReader) -> dict[str, Any] | None:
    """What an excerpt shows of a chapter, by the output's clock in the chapter's unit; None if nothing."""
    unit = chapter["time_base"]
    begin = round((source.origin + source.start) / unit)
    end = chapter["end"] if source.end is None else min(chapter["end"], round((source.origin + source.end) / unit))
    start = max(chapter["start"], begin)
    return {**chapter, "start": start - begin, "end": end - begin} if start < end else None


def _name(stream: Any) -> tuple[str, str]:
    """What to call a kind of track, and its language, where it has one."""
    if stream.disposition & Disposition.attached_pic:
        return "cover picture", ""
    language = stream.metadata.get("language", "und")
    return f"{stream.type} track", "" if language == "und" or stream.type == "data" else f" in {language}"
