"""The arguments of a driver, and their checks, which run before anything is computed.

Every message names the cell and the argument, what was given, what was expected, and what to do.
"Refuse" in a docstring means: raise a ValueError or a TypeError with such a message.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxrnn.core.cell import Carry, Cell, Params, abstract_carry, abstract_params
from jaxrnn.core.check import BRIDGE, check_flag, check_no_variables, described, name_of
from jaxrnn.core.trees import Tree

Lengths = ArrayLike | Sequence[int]
"""How many steps of each sequence are valid; the rest is padding."""


class Flags(TypedDict, total=False):
    """The optional arguments of the drivers over time, and of the Flax modules `RNN`.

    A Flax module that is batch-major takes `mask` and `reset` as `[*batch, time]`.
    """

    lengths: Lengths | None  # [*batch], integers
    mask: ArrayLike | None  # [time, *batch], bool: which steps are valid
    reset: ArrayLike | None  # [time, *batch], bool: whether a new sequence begins at this step
    reverse: bool  # walk from each sequence's last valid step to its first
    context: Tree  # [*batch, ...]: what a cell that takes a context gets at every step


class Call(NamedTuple):
    """The arguments that a cell is run with, over time or for one step."""

    params: Params
    xs: Tree
    carry: Carry
    lengths: Array | None = None
    mask: Array | None = None
    reset: Array | None = None
    context: Tree = None
    key: Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the inputs; that of the first leaf if they are a pytree."""
        return jax.tree.leaves(self.xs)[0].shape


def make_call(
    verb: str, cell: Cell, params: Params, xs: Tree, carry: Carry, key: Array | None, flags: Flags
) -> tuple[Call, bool]:
    """Return the call, and whether time is walked backwards.

    Checks what has to be seen before tracing: values such as lengths, and arguments that are not
    arrays. `checked` checks the rest.
    """
    check_cell(cell, verb)
    check_arrays(cell, "xs", xs)
    check_flag_names(f"jaxrnn.{verb}", flags)
    reverse = check_flag(verb, "reverse", flags.get("reverse", False))
    lengths, mask, reset = (flags.get(name) for name in ("lengths", "mask", "reset"))
    if shape := np.shape(next(iter(jax.tree.leaves(xs)), ())):  # `checked` refuses other inputs
        check_lengths(cell, shape[0], lengths)
    lengths, mask, reset = (None if f is None else jnp.asarray(f) for f in (lengths, mask, reset))
    return Call(params, xs, carry, lengths, mask, reset, flags.get("context"), key), reverse


def checked(cell: Cell, call: Call, timed: bool) -> Call:
    """Return the call with its carry widened and its key as `jax.random.key` makes it.

    Refuses a shape, structure or dtype that does not fit. `timed` says whether the inputs have a
    time axis.
    """
    check_inputs(cell, call.xs, timed)
    one_step = call.shape[timed:]
    check_params(cell, call.params, one_step[-1])
    steps = call.shape[: len(call.shape) - cell.feature_axes]
    if timed:
        _check_flags(cell, call, steps)
    _check_context(cell, call.context, steps[timed:])
    if call.carry is not None:
        call = call._replace(carry=check_carry(cell, call.params, call.carry, one_step))
    return call if call.key is None else call._replace(key=_checked_key(cell, call.key))


def check_flag_names(owner: str, flags: Flags, *others: str) -> None:
    """Refuse a keyword argument that is not one of `Flags`; the message also names `others`."""
    if unknown := set(flags) - {*Flags.__annotations__}:
        raise TypeError(
            f"{owner} got an unexpected keyword argument {sorted(unknown)[0]!r}, expected one of "
            f"{[*Flags.__annotations__, *others]}"
        )


def check_cell(cell: object, verb: str) -> None:
    """Refuse anything that is not a `jaxrnn.Cell`."""
    if not isinstance(cell, Cell):
        is_class = isinstance(cell, type)
        hint = "construct it first, e.g. jaxrnn.LSTM(128)" if is_class else _way_to_a_cell(cell)
        raise TypeError(f"jaxrnn.{verb}: cell must be a jaxrnn.Cell, got {described(cell)}; {hint}")


def _way_to_a_cell(module: object) -> str:
    """Return the hint for an argument that is not a cell.

    Flax is not imported here. A Flax module is recognised by the module that defines its class.
    """
    classes = [base.__module__ for base in type(module).__mro__]
    for home in ("linen", "nnx"):
        if any(name.startswith(f"flax.{home}.") for name in classes):
            if isinstance(getattr(module, "cell", None), Cell):
                return f"pass its .cell; {BRIDGE}"
            return f"jaxrnn.{home}.as_cell(module) turns a cell of Flax into one"
    return "subclass jaxrnn.Cell"


def check_causal(cell: Cell, what: str) -> None:
    """Refuse a cell that needs later inputs, where a single step is taken."""
    if not cell.causal:
        raise TypeError(
            f"{name_of(cell)} needs the whole sequence, so it has no {what}; run it with "
            "jaxrnn.scan or jaxrnn.unroll"
        )


def check_arrays(owner: object, argument: str, xs: Tree) -> None:
    """Refuse tensors of PyTorch, and lists of numbers, which JAX would treat as a pytree."""
    first = next(iter(jax.tree.leaves(xs)), None)
    if type(first).__module__.split(".")[0] == "torch":
        raise TypeError(
            f"{name_of(owner)}: {argument} holds a tensor of torch, expected arrays of JAX or "
            f"NumPy; write {argument}.detach().numpy()"
        )
    if isinstance(first, int | float | complex) and not isinstance(first, np.generic):
        raise TypeError(
            f"{name_of(owner)}: {argument} is {described(xs)} of Python's numbers, expected arrays "
            f"of JAX or NumPy; write jnp.asarray({argument})"
        )


def check_inputs(cell: Cell, xs: Tree, timed: bool) -> None:
    """Refuse inputs that are not floating numbers, or lack a time axis or a feature axis."""
    features = "features" if cell.feature_axes == 1 else f"{cell.feature_axes} feature axes"
    argument, form = (
        ("xs", f"[time, *batch, {features}]") if timed else ("x", f"[*batch, {features}]")
    )
    name, leaves = name_of(cell), jax.tree.leaves(xs)
    if not leaves:
        raise ValueError(f"{name}: {argument} holds no array; expected {form}")
    first = leaves[0]
    if not jnp.issubdtype(first.dtype, jnp.floating):
        raise TypeError(
            f"{name}: {argument} has dtype {first.dtype}, expected floating numbers; embed or "
            "one-hot encode token ids (jax.nn.one_hot), or cast with .astype(jnp.float32)"
        )
    if first.ndim < cell.feature_axes + timed:
        for_one = "the input of one step has features, but no time axis"
        hint = "for a single step use jaxrnn.step" if timed else for_one
        raise ValueError(f"{name}: {argument} has shape {first.shape}, expected {form}; {hint}")
    if timed and (times := {leaf.shape[:1] for leaf in leaves}) != {first.shape[:1]}:
        raise ValueError(
            f"{name}: the leaves of xs differ in their first axis, {sorted(times)}, expected the "
            "same number of time steps in every leaf; put time first, and pass the arguments in "
            "the order (cell, params, xs)"
        )


def check_params(cell: Cell, params: Params, in_features: int) -> None:
    """Refuse parameters of another structure, shape or kind than `cell.init` makes at this size."""
    name = name_of(cell)
    expected = abstract_params(cell, in_features)
    if (given := jax.tree.structure(params)) != (wanted := jax.tree.structure(expected)):
        check_no_variables(name, params)
        bridge = f"; {BRIDGE}" if isinstance(params, Mapping) else ""
        raise ValueError(
            f"{name}: params has the structure {given}, expected {wanted}; make them with "
            f"cell.init, and pass the arguments in the order (cell, params, xs){bridge}"
        )
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for (path, leaf), want in zip(leaves, jax.tree.leaves(expected), strict=True):
        if jnp.shape(leaf) != want.shape:
            raise ValueError(
                f"{name}: params{jax.tree_util.keystr(path)} has shape {jnp.shape(leaf)}, expected "
                f"{want.shape} for inputs with {in_features} features; check the last axis of xs "
                "and the sizes that params were initialised for"
            )
    check_kinds(cell, params, expected)


def check_kinds(cell: Cell, params: Params, expected: Params) -> None:
    """Refuse parameters of another kind of numbers than `cell.init` makes. Any width is allowed."""
    given = jax.tree_util.tree_leaves_with_path(params)
    for (path, leaf), want in zip(given, jax.tree.leaves(expected), strict=True):
        if kind(leaf) != kind(want):
            raise TypeError(
                f"{name_of(cell)}: params{jax.tree_util.keystr(path)} has dtype {_dtype(leaf)}, "
                f"expected {kind(want)} such as {want.dtype}, as cell.init makes it; "
                "dequantise or cast it first"
            )


_KINDS = (
    (jnp.bool_, "bool"),
    (jnp.integer, "integers"),
    (jnp.floating, "floating numbers"),
    (jnp.complexfloating, "complex numbers"),
)


def kind(leaf: ArrayLike | jax.ShapeDtypeStruct) -> str:
    """Return in words which kind of numbers an array holds."""
    dtype = _dtype(leaf)
    return next((name for kind, name in _KINDS if jnp.issubdtype(dtype, kind)), str(dtype))


def _dtype(leaf: ArrayLike | jax.ShapeDtypeStruct) -> np.dtype:
    return getattr(leaf, "dtype", None) or jnp.result_type(leaf)


def check_carry(cell: Cell, params: Params, carry: Carry, input_shape: tuple[int, ...]) -> Carry:
    """Return the carry, widened to the dtype in which the cell carries it.

    Refuses a carry of another structure, shape or kind of numbers, or of a wider dtype.
    """
    name = name_of(cell)
    expected = abstract_carry(cell, params, input_shape)
    if (given := jax.tree.structure(carry)) != (wanted := jax.tree.structure(expected)):
        hint = f"start from cell.initial_carry(params, input_shape={input_shape}), or pass None"
        fields = getattr(expected, "_fields", ())
        if fields and type(carry) in (tuple, list) and len(carry) == len(fields):
            hint = f"write {type(expected).__name__}({', '.join(fields)})"
        raise ValueError(f"{name}: carry has the structure {given}, expected {wanted}; {hint}")

    def leaf(path: tuple[object, ...], given: ArrayLike, want: jax.ShapeDtypeStruct) -> Array:
        where = f"{name}: carry{jax.tree_util.keystr(path)}"
        if jnp.shape(given) != want.shape:
            raise ValueError(
                f"{where} has shape {jnp.shape(given)}, expected {want.shape} for one step's "
                f"input of shape {input_shape}; its batch axes are those of xs"
            )
        return _widened(where, jnp.asarray(given), want.dtype)

    return jax.tree_util.tree_map_with_path(leaf, carry, expected)


def _widened(where: str, given: Array, dtype: np.dtype) -> Array:
    if given.dtype == dtype:
        return given
    floating = all(jnp.issubdtype(d, jnp.floating) for d in (given.dtype, dtype))
    if floating and jnp.finfo(given.dtype).bits <= jnp.finfo(dtype).bits:
        return given.astype(dtype)
    loss = "it would lose digits, so cast it, or the parameters, yourself"
    raise TypeError(
        f"{where} has dtype {given.dtype}, expected {dtype} or a narrower float; "
        f"{loss if floating else 'cast it yourself'}"
    )


def _check_flags(cell: Cell, call: Call, steps: tuple[int, ...]) -> None:
    """Refuse lengths, a mask or a reset of the wrong shape or dtype."""
    for argument, form, want in (
        ("lengths", "[*batch]", steps[1:]),
        ("mask", "[time, *batch]", steps),
        ("reset", "[time, *batch]", steps),
    ):
        given: Array | None = getattr(call, argument)
        if given is None:
            continue
        if given.shape != want:
            raise ValueError(
                f"{name_of(cell)}: {argument} has shape {given.shape}, expected {form} = {want} "
                f"for xs of shape {call.shape}; jaxrnn.scan is time-major"
            )
        counts = argument == "lengths"
        if not jnp.issubdtype(given.dtype, jnp.integer if counts else jnp.bool_):
            to_bool = f"write {argument} != 0, or cast with .astype(bool)"
            raise TypeError(
                f"{name_of(cell)}: {argument} has dtype {given.dtype}, expected "
                f"{'integers' if counts else 'bool'}; "
                f"{'cast with .astype(int)' if counts else to_bool}"
            )


_COUNT = "count the valid steps of each sequence, as jaxrnn.sequences.pad does"


def check_lengths(
    owner: object, time: int, lengths: Lengths | None, least: int = 0, hint: str = _COUNT
) -> None:
    """Refuse lengths below `least` or above the number of time steps.

    Only values that are known can be checked: NumPy's, and those outside `jax.jit`.
    """
    leaves = jax.tree.leaves(lengths)
    if not leaves or any(isinstance(leaf, Tracer) for leaf in leaves):
        return
    if any(isinstance(leaf, Array) and not leaf.is_fully_addressable for leaf in leaves):
        return  # other processes hold some of them
    known = np.asarray(lengths)
    if known.size == 0 or not np.issubdtype(known.dtype, np.integer):
        return  # nothing to compare; the callers refuse wrong axes and dtypes
    shortest, longest = int(known.min()), int(known.max())
    if shortest < least or longest > time:
        raise ValueError(
            f"{name_of(owner)}: lengths go from {shortest} to {longest}, expected {least} to "
            f"{time}, the number of time steps; {hint}"
        )


def _check_context(cell: Cell, context: Tree, batch: tuple[int, ...]) -> None:
    """Refuse a context that no cell takes, a missing one, and one with other batch axes."""
    name, leaves = name_of(cell), jax.tree_util.tree_leaves_with_path(context)
    if cell.takes_context and not leaves:
        raise ValueError(f"{name}: the cell, or one inside it, takes a context; pass context=")
    if leaves and not cell.takes_context:
        raise ValueError(
            f"{name}: context= is given, but neither the cell nor one inside it takes a context; "
            "leave it out"
        )
    for path, leaf in leaves:
        if jnp.shape(leaf)[: len(batch)] != batch:
            raise ValueError(
                f"{name}: context{jax.tree_util.keystr(path)} has shape {jnp.shape(leaf)}, "
                f"expected [*batch, ...] with [*batch] = {batch}, as in the input of one step"
            )


def _checked_key(cell: Cell, key: object) -> Array:
    """Return the key as `jax.random.key` makes it. Refuses anything but one key."""
    if isinstance(key, Array):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0:
            return key
        if key.dtype == jnp.uint32 and key.ndim == 1:
            return jax.random.wrap_key_data(key)  # jax.random.PRNGKey made it
    given = f"{jnp.shape(key)} {key.dtype}" if isinstance(key, Array) else described(key)
    raise TypeError(f"{name_of(cell)}: key is {given}, expected one key such as jax.random.key(0)")


def check_pair(cell: Cell, result: object) -> tuple[Carry, Tree]:
    """Return what a step returned. Refuse anything but a pair."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(
            f"{name_of(cell)}.step returned {described(result)}, expected the pair (carry, y)"
        )
    return result


def check_step_result(cell: Cell, before: Carry, after: Carry) -> None:
    """Refuse a step that changes the structure, a shape or a dtype of its carry."""
    given, got = jax.tree.map(jax.typeof, before), jax.tree.map(jax.typeof, after)
    same = jax.tree.structure(given) == jax.tree.structure(got) and all(
        a.shape == b.shape and a.dtype == b.dtype
        for a, b in zip(jax.tree.leaves(given), jax.tree.leaves(got), strict=True)
    )
    if not same:
        raise TypeError(
            f"{name_of(cell)}.step was given the carry {given} and returned {got}; a carry keeps "
            "its structure, shapes and dtypes, which initial_carry sets"
        )
