"""A folder that is made whole or not at all; no torch, as a server starts with it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """An empty folder beside `output` to fill, which takes its place when all went well, and goes when it did not."""
    output.parent.mkdir(parents=True, exist_ok=True)
    made = Path(mkdtemp(prefix=f"{output.name}.", dir=output.parent))
    try:
        yield made
        made.chmod(0o755)
        if output.exists():
            shutil.rmtree(output)
        made.rename(output)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
