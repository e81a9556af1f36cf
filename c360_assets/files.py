"""Files that are whole or not there, whatever dies or goes dark while they are written.

Belongs here: writing one. Knows nothing of what is in it.
"""

import os
from pathlib import Path


def write_whole(path: Path, text: str | bytes) -> None:
    """Writes what only its owner may read, on the disk when this returns; what was there before stays until then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(text.encode() if isinstance(text, str) else text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
