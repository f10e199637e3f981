"""A page that lays two pictures of a frame over each other, with a wipe between them."""

from collections.abc import Sequence

from torch import Tensor

from nststab.report.document import document, part
from nststab.report.scene import data_uri


def preview_page(title: str, pictures: Sequence[tuple[str, Tensor]]) -> str:
    """The page of pictures (1, 3, H, W) of one size by their labels; it needs neither network nor anything beside it.

    The first is laid against the second; two menus choose others.
    """
    shown = [{"label": label, "image": data_uri(".jpg", picture)} for label, picture in pictures]
    style, script = part("preview.css"), [part("preview.js")]
    return document(part("preview.html"), style=style, script=script, data={"pictures": shown}, title=title)
