"""Where optical flow comes from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nststab.settings import Settings, setting

FlowMethod = Literal["deepflow", "dis", "raft"]


@dataclass(frozen=True)
class FlowSettings(Settings):
    """An estimator with its cache, or a folder of `.flo` files."""

    method: FlowMethod = setting(
        "deepflow", "How optical flow is estimated; dis takes a fraction of the time, raft needs torchvision's weights."
    )
    files: Path | None = setting(
        None,
        "Read the optical flow from .flo files, forward_1_2.flo and backward_2_1.flo and so on.",
        metavar="FLODIR",
    )
    cache: Path | None = setting(
        None,
        "Folder that keeps optical flow by content, so that a second run reads it.",
        told="nststab/flow in the user's cache",
        metavar="DIR",
        decides=False,
    )
