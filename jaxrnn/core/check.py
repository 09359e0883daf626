"""Checks of what a user passes, at trace time, and their messages.

Every message names the cell and the argument, what was given, what was expected, and what to do.
"""

import contextlib
import inspect
import math
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from jaxrnn.core.cell import Carry, Cell, Params

Check = Callable[[Any, str, Any], Any]
"""`check(owner, argument, value) -> value`, or an error that names all three."""


def check_cell(cell: Any, verb: str) -> None:
    """Refuse anything that is not a cell."""
    if not isinstance(cell, Cell):
        hint = (
            "construct it first, e.g. jaxrnn.LSTM(hidden=128)"
            if isinstance(cell, type)
            else "subclass jaxrnn.Cell"
        )
        raise TypeError(
            f"jaxrnn.{verb}: the first argument must be a jaxrnn.Cell, got {_describe(cell)}; "
            f"{hint}"
        )


def check_causal(cell: Cell, what: str) -> None:
    """Refuse a single step of a cell that needs the future."""
    if not cell.causal:
        raise TypeError(
            f"{_name(cell)} needs the whole sequence, so it has no {what}; run it with "
            "jaxrnn.scan or jaxrnn.unroll"
        )


def check_inputs(cell: Cell, xs: Any, timed: bool) -> None:
    """Refuse inputs that are not floating, or lack a time or a feature axis."""
    name, leaves = _name(cell), jax.tree.leaves(xs)
    argument = "xs" if timed else "x"
    if not leaves:
        raise ValueError(f"{name}: {argument} holds no array; expected {_input_form(cell, timed)}")
    first = leaves[0]
    if not jnp.issubdtype(first.dtype, jnp.floating):
        raise TypeError(
            f"{name}: {argument} has dtype {first.dtype}, expected floating numbers; embed or "
            "one-hot encode token ids "
            "(jax.nn.one_hot), or cast with .astype(jnp.float32)"
        )
    if first.ndim < cell.feature_axes + timed:
        hint = (
            "for a single step use jaxrnn.step"
            if timed
            else "one step's input has no time axis but has features"
        )
        raise ValueError(
            f"{name}: {argument} has shape {first.shape}, expected {_input_form(cell, timed)}; "
            f"{hint}"
        )
    if timed and (times := {leaf.shape[:1] for leaf in leaves}) != {first.shape[:1]}:
        raise ValueError(
            f"{name}: the leaves of xs differ in their first axis, {sorted(times)}; every leaf "
            "starts with time"
        )


def check_params(cell: Cell, params: Params, in_features: int) -> None:
    """Refuse parameters that `cell.init` would not have made for inputs of this size."""
    name = _name(cell)
    expected = jax.eval_shape(lambda: cell.init(jax.random.key(0), in_features))
    if (given_form := jax.tree.structure(params)) != (
        expected_form := jax.tree.structure(expected)
    ):
        raise ValueError(
            f"{name}: params has the structure {given_form}, expected {expected_form}; "
            "make them with cell.init, and pass them as (cell, params, xs)"
        )
    given = jax.tree_util.tree_leaves_with_path(params)
    for (path, leaf), want in zip(given, jax.tree.leaves(expected), strict=True):
        if jnp.shape(leaf) != want.shape:
            raise ValueError(
                f"{name}: params{jax.tree_util.keystr(path)} has shape {jnp.shape(leaf)}, "
                f"expected {want.shape} for inputs "
                f"with {in_features} features; check the last axis of xs and the sizes that "
                "params were initialised for"
            )
    check_kinds(cell, params, expected)


def check_kinds(cell: Cell, params: Params, expected: Params) -> None:
    """Refuse parameters that hold another kind of numbers than `cell.init` makes, of any width."""
    given = jax.tree_util.tree_leaves_with_path(params)
    for (path, leaf), want in zip(given, jax.tree.leaves(expected), strict=True):
        if kind(leaf) != kind(want):
            raise TypeError(
                f"{_name(cell)}: params{jax.tree_util.keystr(path)} has dtype {_dtype(leaf)}, "
                f"expected {kind(want)} such as {want.dtype}, as cell.init makes it; "
                "dequantise or cast it first"
            )


_KINDS = (
    (jnp.bool_, "bool"),
    (jnp.integer, "integers"),
    (jnp.floating, "floating numbers"),
    (jnp.complexfloating, "complex numbers"),
)


def kind(leaf: Any) -> str:
    """What an array holds, in words."""
    dtype = _dtype(leaf)
    return next((name for kind, name in _KINDS if jnp.issubdtype(dtype, kind)), str(dtype))


def _dtype(leaf: Any) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)


def check_carry(cell: Cell, params: Params, carry: Carry, input_shape: tuple[int, ...]) -> Carry:
    """The carry, widened to the dtype that the cell carries in; refused if its structure, shape or
    dtype is another.
    """
    name = _name(cell)
    expected = jax.eval_shape(lambda p: cell.initial_carry(p, input_shape), params)
    if (given_form := jax.tree.structure(carry)) != (expected_form := jax.tree.structure(expected)):
        raise ValueError(
            f"{name}: carry has the structure {given_form}, expected {expected_form}; start from "
            "cell.initial_carry(params, "
            f"input_shape={input_shape}), or leave it out"
        )

    def leaf(path: Any, given: Array, want: jax.ShapeDtypeStruct) -> Array:
        where = f"{name}: carry{jax.tree_util.keystr(path)}"
        if jnp.shape(given) != want.shape:
            raise ValueError(
                f"{where} has shape {jnp.shape(given)}, expected {want.shape} for one step's "
                f"input of shape {input_shape}; "
                "its batch axes are those of xs"
            )
        dtype = jnp.result_type(given)
        if dtype == want.dtype:
            return given
        floating = jnp.issubdtype(dtype, jnp.floating) and jnp.issubdtype(want.dtype, jnp.floating)
        if not floating or jnp.finfo(dtype).bits > jnp.finfo(want.dtype).bits:
            hint = (
                "it would lose digits: cast it, or the parameters, yourself"
                if floating
                else "cast it yourself"
            )
            raise TypeError(
                f"{where} has dtype {dtype}, expected {want.dtype} or a narrower float; {hint}"
            )
        return given.astype(want.dtype)

    return jax.tree_util.tree_map_with_path(leaf, carry, expected)


def check_flags(
    cell: Cell, xs: Any, lengths: Array | None, mask: Array | None, reset: Array | None
) -> None:
    """Refuse lengths, masks and resets of the wrong shape or dtype."""
    name = _name(cell)
    shape = jax.tree.leaves(xs)[0].shape
    steps = shape[: len(shape) - cell.feature_axes]
    forms = [("lengths", lengths, "[*batch]", steps[1:]), ("mask", mask, "[time, *batch]", steps)]
    forms.append(("reset", reset, "[time, *batch]", steps))
    for argument, given, form, want in forms:
        if given is None:
            continue
        if given.shape != want:
            raise ValueError(
                f"{name}: {argument} has shape {given.shape}, expected {form} = {want} for xs of "
                f"shape {shape}; "
                "jaxrnn.scan is time-major"
            )
        kind, kind_name = (
            (jnp.integer, "integers") if argument == "lengths" else (jnp.bool_, "bool")
        )
        if not jnp.issubdtype(given.dtype, kind):
            hint = (
                "cast with .astype(int)"
                if argument == "lengths"
                else f"write {argument} != 0, or .astype(bool)"
            )
            raise TypeError(
                f"{name}: {argument} has dtype {given.dtype}, expected {kind_name}; {hint}"
            )


def check_lengths(owner: Any, xs: Any, lengths: Any) -> None:
    """Refuse lengths below 0 or above T, if they are known: NumPy's, or those outside `jax.jit`."""
    leaves = jax.tree.leaves(lengths)
    if not leaves or any(isinstance(leaf, Tracer) for leaf in leaves):
        return
    if any(isinstance(leaf, Array) and not leaf.is_fully_addressable for leaf in leaves):
        return  # other processes hold a part of them
    known, shape = np.asarray(lengths), np.shape(next(iter(jax.tree.leaves(xs)), ()))
    if not shape or known.size == 0 or not np.issubdtype(known.dtype, np.integer):
        return  # nothing to compare, or refused where axes and dtypes are checked
    time, shortest, longest = shape[0], int(known.min()), int(known.max())
    if shortest < 0 or longest > time:
        raise ValueError(
            f"{_name(owner)}: lengths go from {shortest} to {longest}, expected 0 to {time}, "
            "the number of time steps; count the valid steps of each sequence, as "
            "jaxrnn.sequences.pad does"
        )


def check_key(cell: Cell, key: Any) -> Array:
    """The key as `jax.random.key` makes them; refused if it is none."""
    if (
        isinstance(key, jax.Array)
        and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        and key.ndim == 0
    ):
        return key
    if isinstance(key, jax.Array) and key.dtype == jnp.uint32 and key.ndim == 1:
        return jax.random.wrap_key_data(key)  # as jax.random.PRNGKey makes them
    given = f"{jnp.shape(key)} {key.dtype}" if isinstance(key, jax.Array) else _describe(key)
    raise TypeError(f"{_name(cell)}: key is {given}, expected one key such as jax.random.key(0)")


def check_same_size(cell: Cell, inner: Cell, in_features: int) -> None:
    """Refuse to join an input and an output of different sizes."""
    in_features = check_in_features(cell, in_features)
    if inner.out_features != in_features:
        raise ValueError(
            f"{_name(cell)}: {_name(inner)} gives {inner.out_features} features for an input of "
            f"{in_features}, and only equal sizes "
            "can be joined; change its size, or use a projection"
        )


def check_step_result(cell: Cell, before: Carry, after: Carry) -> None:
    """Refuse a step that changes the structure, a shape or a dtype of its carry."""
    describe = jax.typeof
    given, got = jax.tree.map(describe, before), jax.tree.map(describe, after)
    same = jax.tree.structure(given) == jax.tree.structure(got) and all(
        a.shape == b.shape and a.dtype == b.dtype
        for a, b in zip(jax.tree.leaves(given), jax.tree.leaves(got), strict=True)
    )
    if not same:
        raise TypeError(
            f"{_name(cell)}.step was given the carry {given} and returned {got}; a carry keeps "
            "its structure, shapes and dtypes "
            "(initial_carry sets them)"
        )


def check_fields(owner: Any, check: Check, *names: str) -> None:
    """Put fields of a frozen dataclass through a check and keep what it returns.

    That is Python's own number where NumPy's was given, so that equal cells have equal files.
    """
    for name in names:
        object.__setattr__(owner, name, check(owner, name, getattr(owner, name)))


def check_size(owner: Any, argument: str, value: Any, hint: str = "") -> int:
    """Refuse a size that is not a positive integer, or too large for JAX to count with."""
    expected = "a positive integer below 2**31" + hint
    return _integer(owner, argument, value, range(1, 2**31), expected)


def check_in_features(cell: Cell, in_features: Any) -> int:
    """Refuse a size of the input that is none; every `init` that looks at it calls this first."""
    hint = "; pass the size of the inputs' last axis, in_features=xs.shape[-1]"
    return check_size(cell, "in_features", in_features, hint)


def check_flag(owner: Any, argument: str, value: Any) -> bool:
    """Refuse anything but True and False: a word such as "False" would be taken for True."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{_name(owner)}: {argument} is {_shown(value)}, expected True or False")
    return bool(value)


def check_seed(owner: Any, argument: str, value: Any) -> int:
    """Refuse a seed that JAX would not take, or would cut to 32 bits."""
    return _integer(owner, argument, value, range(2**32), "an integer from 0 to 2**32 - 1")


def _integer(owner: Any, argument: str, value: Any, within: range, expected: str) -> int:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or int(value) not in within:
        raise ValueError(f"{_name(owner)}: {argument} is {_shown(value)}, expected {expected}")
    return int(value)


_ABOVE_0, _BELOW_1 = math.nextafter(0, 1), math.nextafter(1, 0)


def check_number(owner: Any, argument: str, value: Any) -> float:
    """Refuse what is no real number."""
    return _number(owner, argument, value, -math.inf, math.inf, "a number")


def check_rate(owner: Any, argument: str, value: Any) -> float:
    """Refuse a rate outside [0, 1)."""
    return _number(owner, argument, value, 0.0, _BELOW_1, "a rate in [0, 1)")


def check_positive(owner: Any, argument: str, value: Any) -> float:
    """Refuse a number that is not positive."""
    return _number(owner, argument, value, _ABOVE_0, math.inf, "a positive number")


def check_limit(owner: Any, argument: str, value: Any) -> float | None:
    """Refuse a bound that is not positive; None is no bound."""
    if value is None:
        return None
    expected = "a positive number, or None for no limit"
    return _number(owner, argument, value, _ABOVE_0, math.inf, expected)


def _number(
    owner: Any,
    argument: str,
    value: Any,
    least: float,
    most: float,
    expected: str,
) -> float:
    number = math.nan
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # an integer beyond all floats
            number = float(value)
    if not least <= number <= most:  # nor is NaN
        raise ValueError(f"{_name(owner)}: {argument} is {_shown(value)}, expected {expected}")
    return number


def check_function(
    owner: Any,
    argument: str,
    value: Any,
    named: Collection[str],
    parameters: tuple[str, ...],
) -> Any:
    """Refuse a name that is unknown, and what cannot be called with so many arguments."""
    form = f"function({', '.join(parameters)})"
    expected = f"expected a name, one of {sorted(named)}, or a callable, {form}"
    if isinstance(value, str):
        if value not in named:
            raise ValueError(f"{_name(owner)}: {argument} {value!r} is unknown, {expected}")
    elif not takes(value, len(parameters)):
        raise TypeError(f"{_name(owner)}: {argument} is {value!r}, {expected}")
    return value


def takes(value: Any, arguments: int) -> bool:
    """Whether a value is a function, and not a class, that can be called with so many arguments."""
    if not callable(value) or isinstance(value, type):
        return False
    try:
        inspect.signature(value).bind(*[None] * arguments)
    except TypeError:
        return False
    except ValueError:  # one that is written in C need not say what it takes
        return True
    return True


def check_choice(owner: Any, argument: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Refuse a word that is not among the choices."""
    if value not in choices:
        raise ValueError(
            f"{_name(owner)}: {argument} is {value!r}, expected one of {list(choices)}"
        )


def check_inner(cell: Cell, argument: str, inner: Any) -> None:
    """Refuse an inner cell that is not one."""
    if not isinstance(inner, Cell):
        raise TypeError(
            f"{_name(cell)}: {argument} holds {_describe(inner)}, expected a jaxrnn.Cell such as "
            "jaxrnn.LSTM(128)"
        )


def _name(owner: Any) -> str:
    return owner if isinstance(owner, str) else getattr(owner, "__name__", type(owner).__name__)


def _shown(value: Any) -> str:
    """A value for a message, without the numbers of an array."""
    array = hasattr(value, "shape") and not isinstance(value, np.generic)
    return f"an array of shape {value.shape}" if array else repr(value)


def _describe(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


def _input_form(cell: Cell, timed: bool) -> str:
    features = "features" if cell.feature_axes == 1 else f"{cell.feature_axes} feature axes"
    return f"[time, *batch, {features}]" if timed else f"[*batch, {features}]"
