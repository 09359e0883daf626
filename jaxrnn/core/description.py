"""Hyperparameters as text: as the Python call that makes them, and as JSON and back.

They are names, numbers, tuples, dictionaries and dataclasses. The reader of a description lists the
classes that it may name; any other is refused. Its size is checked before anything is built.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

_LONGEST = 1_000_000
"""Most characters of JSON. A stack of a thousand layers needs half as many."""
_DEEPEST = 64
"""Most nested levels of JSON. An inner cell is one level below its outer one, or two in a stack."""
_MOST = 10_000
"""Most cells and other dataclasses. Building one takes milliseconds."""


def constructor(value: Any) -> str:
    """Return the call that makes a dataclass. Fields that have their default are left out.

    >>> import jaxrnn
    >>> jaxrnn.Stack([jaxrnn.LSTM(4), jaxrnn.GRU(5, bias=False)])
    Stack((LSTM(4), GRU(5, bias=False)))
    """
    given, in_order = [], True  # in_order: whether all earlier fields were written
    for field in dataclasses.fields(value):
        kept = getattr(value, field.name)
        if field.init and field.repr and (kept is not field.default and kept != field.default):
            named = field.kw_only or not in_order
            given.append(f"{field.name}={kept!r}" if named else repr(kept))
        else:
            in_order = False
    return f"{type(value).__name__}({', '.join(given)})"


def describe(value: Any, where: str, own: Mapping[str, type]) -> Any:
    """Return a hyperparameter as JSON values. A dictionary is described like a class, "dict".

    Args:
        value: the hyperparameter.
        where: names it in a message.
        own: the library's classes by name.

    Raises:
        ValueError: JSON cannot hold it, or a foreign class has the name of one in `own`.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return [describe(item, f"{where}[{k}]", own) for k, item in enumerate(value)]
    name = type(value).__name__
    if type(value) is dict:
        if any(not isinstance(key, str) or key == "class" for key in value):
            raise ValueError(
                f"{where} has the keys {[*value]}, expected strings other than 'class'; rename them"
            )
        fields = {key: describe(item, f"{where}[{key!r}]", own) for key, item in value.items()}
        return {"class": name} | fields
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise ValueError(
            f"{where} is {value!r}, which a file cannot hold; use a name or one of jaxrnn's "
            "dataclasses"
        )
    if own.get(name, type(value)) is not type(value):
        raise ValueError(
            f"{where} is a {name} that is not jaxrnn's {name}; give your class another name"
        )
    return {"class": name} | {
        f.name: describe(getattr(value, f.name), f"{where}.{f.name}", own)
        for f in dataclasses.fields(value)
        if f.init
    }


def build(description: Any, classes: Mapping[str, type]) -> Any:
    """Build the hyperparameter that `describe` described.

    Raises:
        ValueError: the description names a class that is not in `classes`, or has a value that
            `describe` would not have written.
    """
    if isinstance(description, list):
        return tuple(build(item, classes) for item in description)
    if not isinstance(description, dict):
        return description
    given = {name: build(value, classes) for name, value in description.items() if name != "class"}
    name: Any = description.get("class")
    if name not in classes:
        raise ValueError(
            f"it has a {name!r}, expected a class of jaxrnn; pass a class of your own as "
            "known=[...]"
        )
    built = classes[name](**given)
    if isinstance(built, dict):
        return built
    for field in dataclasses.fields(built):
        kept, value = getattr(built, field.name), given.get(field.name, field.default)
        # A constructor may fill in a field that was left out, such as a second direction. In a
        # forged file, that could double the cells at each level. A cell that `save` describes has
        # been constructed, so its fields are filled in.
        if field.init and value is not kept and value is not dataclasses.MISSING and value != kept:
            raise ValueError(f"{name}: {field.name} is {value!r}, which save does not write")
    return built


def parse(text: str) -> Any:
    """Parse JSON.

    Raises:
        ValueError: it is too long, nested too deeply, describes too many cells, or is not JSON.
        RecursionError: it is nested so deeply that `json` cannot read it.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"its description has {len(text)} characters, more than {_LONGEST}")
    content = json.loads(text)
    if (depth := _depth(content)) > _DEEPEST:
        raise ValueError(f"its description has {depth} levels, more than {_DEEPEST}")
    if (count := sum(1 for _ in class_names(content))) > _MOST:
        raise ValueError(f"its description has {count} cells and the like, more than {_MOST}")
    return content


def class_names(description: Any) -> Iterator[Any]:
    """Yield the class name of every dataclass and dictionary that a description would build."""
    if isinstance(description, dict) and "class" in description:
        yield description["class"]
    for inner in _inside(description):
        yield from class_names(inner)


def _depth(description: Any) -> int:
    return 1 + max(map(_depth, _inside(description)), default=0)


def _inside(description: Any) -> list[Any]:
    """Return the values one level down."""
    if isinstance(description, dict):
        return list(description.values())
    return description if isinstance(description, list) else []
