"""The device and the versions, and the JSON file that holds them with the records."""

import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

import jax

from benchmarks.machine import processor

PACKAGES = ("jaxrnn", "jax", "jaxlib", "flax", "dm-haiku", "equinox", "keras", "torch", "numpy")
RESULTS = Path(__file__).parent / "results"


def describe() -> dict[str, Any]:
    """When, where and with what."""
    return {
        "date": datetime.date.today().isoformat(),
        "device": {
            "platform": jax.default_backend(),
            **processor().facts(),
            "cores": os.cpu_count(),
            "jax_devices": jax.device_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "xla_flags": os.environ.get("XLA_FLAGS", ""),
        },
        "versions": {package: version for package in PACKAGES if (version := _version(package))},
    }


def write(path: Path, result: dict[str, Any]) -> None:
    """One record a line: small, and a change shows in a diff."""
    lines = []
    for key, value in result.items():
        if isinstance(value, list) and value:
            text = "[\n" + ",\n".join("  " + json.dumps(record) for record in value) + "\n ]"
        else:
            text = json.dumps(value, ensure_ascii=False)
        lines.append(f" {json.dumps(key)}: {text}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """What `write` wrote; of a folder, all complete records by the names of their files."""
    if path.is_dir():
        records = {file.stem: read(file) for file in sorted(path.glob("*.json"))}
        return {name: record for name, record in records.items() if record.get("complete")}
    return json.loads(path.read_text(encoding="utf-8"))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
