"""Reading and writing files, with errors that name the file."""

import importlib.metadata
import tempfile
from pathlib import Path


def package_file(package: str, path: str) -> Path:
    """Return the path of a file or folder in an installed package.

    The package is not imported, because some packages look for data on the network when they are.

    Raises:
        ValueError: the package is not installed, or has no such file.
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
    """Return the text of a file in UTF-8.

    Raises:
        ValueError: the file cannot be read, or is not in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"cannot read {path}: not UTF-8 text (byte {error.start})") from error


def read_numbers(path: Path) -> list[float]:
    """Return the numbers of a text file, which are separated by spaces or line breaks.

    Raises:
        ValueError: the file cannot be read, or holds a word that is not a number.
    """
    words = read_text(path).split()
    try:
        return [float(word) for word in words]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def make_writable(folder: Path) -> None:
    """Create a folder if it does not exist.

    Raises:
        ValueError: the folder cannot be created, or no file can be written to it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror or error}") from error
