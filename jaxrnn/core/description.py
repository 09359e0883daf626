"""Hyperparameters as the code that makes them, and as JSON and back: names, numbers, tuples,
dictionaries and dataclasses.

Whoever reads a description says which classes it may name, and gets nothing else. What it may ask
for is bounded before anything is built."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

_LONGEST = 1_000_000
"""Characters of JSON; a stack of a thousand layers needs half as many."""
_DEEPEST = 64
"""Levels of JSON: a cell in another one is one level below it, or two in a stack."""
_MOST = 10_000
"""Cells and other dataclasses, for to build one takes milliseconds."""


def constructor(value: Any) -> str:
    """The call that makes a dataclass, with the fields alone that are not their defaults.

    >>> import jaxrnn
    >>> jaxrnn.Stack([jaxrnn.LSTM(4), jaxrnn.GRU(5, bias=False)])
    Stack((LSTM(4), GRU(5, bias=False)))
    """
    given, in_order = [], True  # whether all fields before were written
    for field in dataclasses.fields(value):
        kept = getattr(value, field.name)
        if field.init and field.repr and (kept is not field.default and kept != field.default):
            named = field.kw_only or not in_order
            given.append(f"{field.name}={kept!r}" if named else repr(kept))
        else:
            in_order = False
    return f"{type(value).__name__}({', '.join(given)})"


def describe(value: Any, where: str, own: Mapping[str, type]) -> Any:
    """A hyperparameter as JSON; a dictionary is described as if that were its class."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return [describe(item, f"{where}[{k}]", own) for k, item in enumerate(value)]
    name = type(value).__name__
    if type(value) is dict:
        if any(not isinstance(key, str) or key == "class" for key in value):
            raise ValueError(f"{where} has the keys {[*value]}, expected names other than 'class'")
        fields = {key: describe(item, f"{where}[{key!r}]", own) for key, item in value.items()}
        return {"class": name} | fields
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise ValueError(
            f"{where} is {value!r}, which a file cannot hold; use a name or one of jaxrnn's "
            "dataclasses"
        )
    if own.get(name, type(value)) is not type(value):
        raise ValueError(f"{where} is a {name} that is not jaxrnn's; give the class another name")
    return {"class": name} | {
        f.name: describe(getattr(value, f.name), f"{where}.{f.name}", own)
        for f in dataclasses.fields(value)
    }


def build(description: Any, classes: Mapping[str, type]) -> Any:
    """The inverse."""
    if isinstance(description, list):
        return tuple(build(item, classes) for item in description)
    if not isinstance(description, dict):
        return description
    given = {name: build(value, classes) for name, value in description.items() if name != "class"}
    name: Any = description.get("class")
    if name not in classes:
        raise ValueError(
            f"it has a {name!r}, which is no class of jaxrnn; pass a class of your own as "
            "known=[...]"
        )
    built = classes[name](**given)
    if isinstance(built, dict):
        return built
    for field in dataclasses.fields(built):
        kept, value = getattr(built, field.name), given.get(field.name, field.default)
        # A constructor that fills in what was left out, such as a second direction, could double
        # a cell at each level. It has done so before `save` describes the cell.
        if value is not kept and value is not dataclasses.MISSING and value != kept:
            raise ValueError(f"{name}: {field.name} is {value!r}, which save does not write")
    return built


def parse(text: str) -> Any:
    """What a text says, refused if it is too long, too deep or of too many parts."""
    if len(text) > _LONGEST:
        raise ValueError(f"its description has {len(text)} characters, more than {_LONGEST}")
    content = json.loads(text)
    if (depth := _depth(content)) > _DEEPEST:
        raise ValueError(f"its description has {depth} levels, more than {_DEEPEST}")
    if (count := sum(1 for _ in class_names(content))) > _MOST:
        raise ValueError(f"its description has {count} cells and the like, more than {_MOST}")
    return content


def class_names(description: Any) -> Iterator[Any]:
    """The classes of all that a description would build."""
    if isinstance(description, dict) and "class" in description:
        yield description["class"]
    for inner in _inside(description):
        yield from class_names(inner)


def _depth(description: Any) -> int:
    return 1 + max(map(_depth, _inside(description)), default=0)


def _inside(description: Any) -> list[Any]:
    """What a level of JSON holds."""
    if isinstance(description, dict):
        return list(description.values())
    return description if isinstance(description, list) else []
