"""Files that are read and written, with errors that name them."""

import importlib.metadata
import tempfile
from pathlib import Path


def package_file(package: str, path: str) -> Path:
    """A file or a folder that an installed package brings; ValueError if it is not there.

    The package is found, not imported: what some of them run on import is not needed, or looks for
    data on the network.
    """
    try:
        found = Path(str(importlib.metadata.distribution(package).locate_file(path)))
    except importlib.metadata.PackageNotFoundError:
        found = None
    if found is None or not found.exists():
        raise ValueError(
            f"{path} comes from the package {package}, which is not installed: pip install "
            '"jaxrnn[examples]"'
        )
    return found


def read_text(path: Path) -> str:
    """The text of a UTF-8 file; ValueError if it is none."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"cannot read {path}: not UTF-8 text (byte {error.start})") from error


def read_numbers(path: Path) -> list[float]:
    """The numbers of a text file, between spaces or lines; ValueError if it holds other words."""
    try:
        return [float(word) for word in read_text(path).split()]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def make_writable(folder: Path) -> None:
    """Make a folder where there is none; ValueError if no file can be written to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror or error}") from error
