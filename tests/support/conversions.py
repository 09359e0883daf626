"""What the tests of weight exchange share: random parameters, ragged sequences, and cells without
how they start.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.core.cell import abstract_params
from tests.support.specs import Spec

TIME, BATCH, FEATURES, HIDDEN = 6, 4, 3, 5
LENGTHS = np.array([6, 2, 4, 1], np.int32)
VALID = np.arange(TIME)[:, None] < LENGTHS
_HOW_TO_START = {"forget_bias", "update_bias", "w_x_init", "w_h_init", "b_init", "p_init"}

scan = jax.jit(jaxrnn.scan, static_argnums=0)
"""As one program: eagerly, the initial carry's operations are compiled by themselves."""

each_dtype = pytest.mark.parametrize(
    "dtype", ["float32", "float16", "bfloat16", "float64"], indirect=True
)
each_precision = pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float32", 1e-5), ("float64", 1e-12)],
    ids=["float32", "float64"],
    indirect=["dtype"],
)


def random_like(shapes: Any, dtype: Any = "float32", seed: int = 0) -> Any:
    """Random arrays of these shapes without zeros, so that a bias left out would be seen."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jax.device_put(np.asarray(rng.normal(size=np.shape(leaf)) / 2, dtype)), shapes
    )


def params_like(cell: jaxrnn.Cell, in_features: int = FEATURES) -> Any:
    """The shapes of a cell's parameters."""
    return abstract_params(cell, in_features)


def random_params(cell: jaxrnn.Cell, dtype: Any = "float32", in_features: int = FEATURES) -> Any:
    """Random parameters of a cell."""
    return random_like(params_like(cell, in_features), dtype)


def with_zeros(params: Any, read: Any) -> Any:
    """The parameters, with zeros for those biases that only `read` has."""
    added = {
        name
        for name in ("b", "b_hn")
        if getattr(params, name, 0) is None and getattr(read, name) is not None
    }
    return (
        params._replace(**{name: jnp.zeros_like(getattr(read, name)) for name in added})
        if added
        else params
    )


def random_inputs(dtype: Any, *space: int) -> jax.Array:
    """Inputs `[time, batch, *space, features]`."""
    form = jax.ShapeDtypeStruct((TIME, BATCH, *space, FEATURES), "float32")
    return random_like(form, dtype, seed=1)


def over_ragged(
    step: Callable[[Any, Any], tuple[Any, Any]], state: Any, xs: Any
) -> tuple[Any, Any]:
    """The final state and the outputs of another framework's step on sequences of `LENGTHS`."""
    ys = []
    for x, valid in zip(xs, VALID[..., None], strict=True):
        after, y = step(state, x)
        state = jax.tree.map(lambda new, old, valid=valid: jnp.where(valid, new, old), after, state)
        ys.append(jnp.where(valid, y, 0))
    return state, jnp.stack(ys)


def without_start(value: Any, **options: Any) -> Any:
    """A cell with these options that starts as by default: how it starts is in no weights."""
    if isinstance(value, tuple):
        return tuple(without_start(inner, **options) for inner in value)
    if not isinstance(value, jaxrnn.Cell):
        return value
    fields: Any = dataclasses.fields(value)  # type: ignore[arg-type]  # every cell is a dataclass
    changes = {
        f.name: f.default
        if f.name in _HOW_TO_START
        else without_start(getattr(value, f.name), **options)
        for f in fields
    }
    own = {name: option for name, option in options.items() if name in changes}
    return dataclasses.replace(value, **{**changes, **own})  # type: ignore[type-var]


def assert_refused(spec: Spec, convert: Callable[..., Any], *args: Any) -> None:
    """The conversion says who refuses, and which cell, whatever the parameters are."""
    with pytest.raises(ValueError, match=rf"^{convert.__name__}: ") as caught:
        convert(spec.cell, params_like(spec.cell, spec.in_features), *args)
    cells = {word for word in re.findall(r"\w+(?=\()", repr(spec.cell)) if word[0].isupper()}
    assert any(re.search(rf"\b{name}\b", str(caught.value)) for name in cells), caught.value
