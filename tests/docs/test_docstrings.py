"""What `CONTRIBUTING.md` promises of docstrings."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import jaxrnn


def public() -> Iterator[tuple[str, object]]:
    """Every name of an `__all__`, with its value."""
    found = pkgutil.walk_packages(jaxrnn.__path__, "jaxrnn.")
    for name in ["jaxrnn", *(module.name for module in found)]:
        if "._" not in name:
            module = importlib.import_module(name)
            for exported in getattr(module, "__all__", ()):
                yield f"{name}.{exported}", getattr(module, exported)


def test_every_public_class_and_function_has_an_example() -> None:
    """Modules, constants and aliases of types need none."""
    without = []
    for name, value in public():
        value = inspect.unwrap(value)  # type: ignore[arg-type]
        if inspect.isclass(value) or inspect.isfunction(value):
            without += [] if ">>>" in (value.__doc__ or "") else [name]
    assert not without
