"""The device and the versions, and the JSON file that holds them with the records."""

import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("jaxrnn", "jax", "jaxlib", "flax", "dm-haiku", "equinox", "keras", "torch", "numpy")
RESULTS = Path(__file__).parent / "results"


def describe() -> dict[str, Any]:
    """When, where and with what."""
    return {
        "date": datetime.date.today().isoformat(),
        "device": {
            "platform": jax.default_backend(),
            "name": _device_name(),
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
    """What `write` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device_name() -> str:
    if jax.default_backend() != "cpu":
        return jax.devices()[0].device_kind
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        line = next(line for line in lines if line.startswith("model name"))
        return line.split(":", 1)[1].strip()
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
