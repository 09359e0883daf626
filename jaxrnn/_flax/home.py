"""What `jaxrnn.linen` and `jaxrnn.nnx` share: checks, Flax's `dtype`, and batch-major data."""

from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.combinators import Reversed
from jaxrnn.core.call import Flags, check_arrays, check_cell, check_flag_names
from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.check import check_choice, check_flag, name_of
from jaxrnn.core.trees import Tree
from jaxrnn.drivers import scan, step
from jaxrnn.methods import MethodLike, named
from jaxrnn.sequences import last_output, max_output, mean_output

Outputs = Literal["all", "last", "mean", "max"]
"""Which outputs a module returns: all, or one for each sequence, made by `jaxrnn.sequences`."""


class Home(Protocol):
    """The attributes of an `RNN` module."""

    @property
    def cell(self) -> Cell: ...
    @property
    def outputs(self) -> Outputs: ...
    @property
    def time_major(self) -> bool: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def method(self) -> MethodLike: ...


def check_rnn(
    cell: Any,
    home: str,
    outputs: Any,
    time_major: Any,
    method: Any,
    deterministic: Any = None,
) -> None:
    """Refuse to build an `RNN` around anything but a cell, or with unknown options."""
    owner = f"jaxrnn.{home}.RNN"
    check_cell(cell, f"{home}.RNN")
    check_choice(owner, "outputs", outputs, ("all", "last", "mean", "max"))
    check_flag(owner, "time_major", time_major)
    named(owner, method)
    if deterministic is not None:
        check_flag(owner, "deterministic", deterministic)


def check_rnn_cell(cell: Any, home: str) -> None:
    """Refuse to build an `RNNCell` around anything that Flax cannot run step by step."""
    check_cell(cell, f"{home}.RNNCell")
    if not cell.causal:
        raise TypeError(
            f"jaxrnn.{home}.RNNCell: {type(cell).__name__} needs the whole sequence, so Flax "
            f"cannot run it step by step; run it with jaxrnn.{home}.RNN, or give Flax's "
            "Bidirectional one causal cell for each direction"
        )
    if cell.takes_context:
        raise TypeError(
            f"jaxrnn.{home}.RNNCell: {type(cell).__name__} takes a context, which Flax cannot pass "
            f"to it; run it with jaxrnn.{home}.RNN"
        )
    if cell.noisy:
        raise TypeError(
            f"jaxrnn.{home}.RNNCell: {type(cell).__name__} draws random numbers, but Flax's loop "
            f"passes it no key; run it with jaxrnn.{home}.RNN, or leave out what draws"
        )


def cast(tree: Tree, dtype: Any) -> Any:
    """Cast every floating leaf to `dtype`. None casts nothing."""
    if dtype is None:
        return tree

    def leaf(value: Any) -> Any:
        value = jnp.asarray(value)
        return value.astype(dtype) if jnp.issubdtype(value.dtype, jnp.floating) else value

    return jax.tree.map(leaf, tree)


def feature_size(owner: str, cell: Cell, x: Tree) -> int:
    """Return the size of the last axis of one step's input. Refuse too few axes."""
    return _feature_size(
        f"{owner}({type(cell).__name__})", "x", x, ["*batch", *["features"] * cell.feature_axes]
    )


def sequence_feature_size(owner: str, home: Home, xs: Tree, flags: Flags) -> int:
    """Return the size of the last axis of a sequence. Refuse too few axes, and unknown flags."""
    check_flag_names(owner, flags, "deterministic")
    steps = ["time", "*batch"] if home.time_major else ["*batch", "time"]
    name, form = (
        f"{owner}({type(home.cell).__name__})",
        [*steps, *["features"] * home.cell.feature_axes],
    )
    return _feature_size(name, "xs", xs, form, "; for a single step use jaxrnn.step")


def _feature_size(name: str, argument: str, tree: Tree, form: list[str], hint: str = "") -> int:
    check_arrays(name, argument, tree)
    leaves = jax.tree.leaves(tree)
    if not leaves or jnp.ndim(leaves[0]) < len(form) - 1:
        given = f"has shape {jnp.shape(leaves[0])}" if leaves else "holds no array"
        raise ValueError(f"{name}: {argument} {given}, expected [{', '.join(form)}]{hint}")
    return jnp.shape(leaves[0])[-1]


def run(
    owner: str,
    home: Home,
    params: Params,
    xs: Tree,
    carry: Carry,
    key: Array | None,
    flags: Flags,
) -> tuple[Carry, Tree]:
    """Call `jaxrnn.scan` with inputs and parameters in the module's `dtype`.

    Unless `home.time_major`, the time axis of the inputs, mask and resets follows the batch axes.
    """
    shape = jnp.shape(jax.tree.leaves(xs)[0])
    axis = 0 if home.time_major else len(shape) - home.cell.feature_axes - 1
    if not home.time_major:
        _check_batch_major(f"{owner}({type(home.cell).__name__})", shape[: axis + 1], xs, flags)
    mask, reset = (
        None if flag is None else jnp.asarray(flag)
        for flag in (flags.get("mask"), flags.get("reset"))
    )
    xs, mask, reset = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, axis, 0), (xs, mask, reset))
    params, xs, context = cast((params, xs, flags.get("context")), home.dtype)
    flags = Flags(**flags | {"mask": mask, "reset": reset, "context": context})
    try:
        carry, ys = scan(home.cell, params, xs, carry, key=key, method=home.method, **flags)
    except (TypeError, ValueError) as error:
        if axis:
            error.add_note(
                f"{owner} got xs of shape {shape} and moved time to the front; the error above is "
                "that of jaxrnn.scan, with time first"
            )
        raise
    if home.outputs != "all":
        return carry, _one_output(home, ys, flags)
    return carry, jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, axis), ys)


def _one_output(home: Home, ys: Tree, flags: Flags) -> Tree:
    """Return the output of each sequence that `home.outputs` names, from `[time, *batch, ...]`."""
    valid = {"lengths": flags.get("lengths"), "mask": flags.get("mask")}
    if home.outputs == "last":
        cell = Reversed(home.cell) if flags.get("reverse") else home.cell
        return last_output(ys, cell, **valid)
    return {"mean": mean_output, "max": max_output}[home.outputs](ys, **valid)


def take_step(
    home: Home, params: Params, x: Tree, carry: Carry, key: Array | None, context: Tree
) -> tuple[Carry, Tree]:
    """Call `jaxrnn.step` with the module's `dtype`."""
    params, x, context = cast((params, x, context), home.dtype)
    return step(home.cell, params, carry, x, context=context, key=key)


def merged(owner: str, cell: Cell, built: bool | None, called: bool | None) -> bool:
    """Return the flag `deterministic` of a noisy cell.

    Either the constructor or the call has to set it, and not both, as in `flax.linen.Dropout`.
    """
    if called is not None:
        called = check_flag(owner, "deterministic", called)
    if (built is None) == (called is None):
        given = "not set" if called is None else "set in the constructor and in the call"
        raise ValueError(
            f"{owner}: deterministic is {given}, but {name_of(cell)} draws random numbers in "
            "training; set it in the constructor or in the call: False for training, with "
            'rngs={"dropout": key}, and True otherwise'
        )
    return bool(called if built is None else built)


def _check_batch_major(name: str, steps: tuple[int, ...], xs: Tree, flags: Flags) -> None:
    hint = "; pass time_major=True to the constructor if time is the first axis"
    for path, leaf in jax.tree_util.tree_leaves_with_path(xs):
        if (given := jnp.shape(leaf))[: len(steps)] != steps:
            where = f"xs{jax.tree_util.keystr(path)}"
            raise ValueError(
                f"{name}: {where} has shape {given}, expected [*batch, time, ...] with "
                f"[*batch, time] = {steps}{hint if given[:1] == steps[:1] else ''}"
            )
    for argument, form, want in (
        ("lengths", "[*batch]", steps[:-1]),
        ("mask", "[*batch, time]", steps),
        ("reset", "[*batch, time]", steps),
    ):
        flag = flags.get(argument)
        if flag is not None and (given := np.shape(flag)) != want:
            raise ValueError(
                f"{name}: {argument} has shape {given}, expected {form} = {want}"
                f"{hint if argument == 'lengths' and given == steps[1:] else ''}"
            )
