"""Where the optical flow comes from: estimated and kept in the cache, or read from files."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from nststab.flow.estimators import (
    ESTIMATORS,
    FloFolder,
    FlowFunction,
    between_frames,
    cached,
    require_estimator,
    trim_cache,
)
from nststab.flow.settings import FlowSettings

log = logging.getLogger(__name__)

CACHE_BYTES = 4 << 30  # about 2,400 pairs at 432x240, both directions


@dataclass(frozen=True)
class FlowSource:
    """An estimator with its cache folder, by default the user's; or a folder of `.flo` files."""

    method: str = "deepflow"
    cache: Path | None = None
    files: FloFolder | None = None

    def function(self) -> FlowFunction:
        """The flow between two frames; OSError at once where it cannot be estimated here."""
        if self.files is not None:
            log.info(f"flow: the files of {self.files.folder}")
            return self.files
        require_estimator(self.method)
        folder = cache_folder(self.cache)
        trim_cache(folder, CACHE_BYTES)
        (log.debug if self.method == "deepflow" else log.info)(f"flow: {self.method}")
        log.debug(f"flows are kept in {folder}")
        return between_frames(cached(ESTIMATORS[self.method], folder, self.method))

    def require_size(self, height: int, width: int) -> None:
        """Raises ValueError at once where the flows of files have another size than the frames will."""
        if self.files is not None:
            self.files.require_size(height, width)


def flow_source(settings: FlowSettings) -> FlowSource:
    """What the settings say."""
    return FlowSource(settings.method, settings.cache, None if settings.files is None else FloFolder(settings.files))


def cache_folder(given: Path | None = None) -> Path:
    """Where flows are kept: the folder that was given, or one in the user's cache."""
    return given or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nststab" / "flow"
