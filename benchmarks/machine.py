"""What the processor is: its name, its widest vectors, its caches."""

import platform
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax

VECTORS = {
    "avx512f": "avx512",
    "avx2": "avx2",
    "avx": "avx",
    "sse4_2": "sse4.2",
    "sve": "sve",
    "asimd": "neon",
}
"""Vector sets by the kernel's flag, the widest of a family first."""

_NO_NAME = re.compile(r"\([^)]*\)|@.*|\b(CPU|Processor|\d+-Core)\b")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


class Processor(NamedTuple):
    """A processor; what the system does not tell is None."""

    name: str
    vectors: str | None = None
    l2: int | None = None  # bytes, of one core
    l3: int | None = None
    model: str | None = None  # "family 25 model 17": names are as short as "AMD EPYC"

    @property
    def slug(self) -> str:
        """A file's name: that of the processor and its vectors, without marks and clock rates."""
        words = f"{_NO_NAME.sub(' ', self.name)} {self.model or ''} {self.vectors or ''}"
        return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-") or "unknown"

    def facts(self) -> dict[str, Any]:
        """For a record."""
        return self._asdict()


def processor(
    cpuinfo: Path = Path("/proc/cpuinfo"),
    caches: Path = Path("/sys/devices/system/cpu/cpu0/cache"),
) -> Processor:
    """The one that JAX computes on."""
    if jax.default_backend() != "cpu":
        return Processor(jax.devices()[0].device_kind)
    told = _told(cpuinfo)
    name = told.get("model name") or platform.processor() or platform.machine()
    flags = (told.get("flags") or told.get("Features") or "").split()
    vectors = next((vectors for flag, vectors in VECTORS.items() if flag in flags), None)
    numbers = {key: told.get(f"cpu {key}", told.get(key)) for key in ("family", "model")}
    model = " ".join(f"{key} {number}" for key, number in numbers.items() if number) or None
    return Processor(name, vectors, _cache(caches, 2), _cache(caches, 3), model)


def _told(cpuinfo: Path) -> dict[str, str]:
    """What is said of the first core."""
    try:
        first = cpuinfo.read_text(encoding="utf-8").split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _cache(caches: Path, level: int) -> int | None:
    """Its bytes."""
    for index in sorted(caches.glob("index*")):
        try:
            found, size = ((index / file).read_text().strip() for file in ("level", "size"))
        except OSError:
            continue
        if found == str(level):
            return int(size[:-1]) * _UNITS[size[-1]] if size[-1] in _UNITS else int(size)
    return None
