"""jaxrnn at home in `flax.nnx`: `RNN`, and `RNNCell` for Flax's own `RNN` and `Bidirectional`."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxrnn import _flax
from jaxrnn._cell import Carry, Cell, Params
from jaxrnn._check import check_in_features
from jaxrnn._scan import Gradient, step
from jaxrnn.foreign import FunctionCell

Array = jax.Array

__all__ = ["RNN", "RNNCell", "as_cell"]


class _Home(nnx.Module):
    """A cell, and its parameters as `nnx.Param`s under the cell's own names."""

    if TYPE_CHECKING:  # the parameters are attributes too

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, cell: Cell, in_features: int, dtype: Any, param_dtype: Any, rngs: nnx.Rngs) -> None:
        owner = f"jaxrnn.nnx.{type(self).__name__}({type(cell).__name__})"
        in_features = check_in_features(cell, in_features)
        if not isinstance(rngs, nnx.Rngs):
            raise TypeError(f"{owner}: rngs is a {type(rngs).__name__}, expected a flax.nnx.Rngs such as nnx.Rngs(0)")
        self.cell = cell
        self.in_features = in_features
        self.dtype = dtype
        self.param_dtype = param_dtype
        for name, value in _flax.nested(cell.init(rngs.params(), in_features, param_dtype)).items():
            if hasattr(self, name):
                raise ValueError(f"{owner}: parameter {name!r} has the name of an attribute of the module; rename it in the cell")
            setattr(self, name, _variables(value))

    def _params(self) -> Params:
        """The parameters in the cell's own structure."""

        def find(path: tuple[str, ...]) -> Array:
            node: Any = self
            for name in path:
                node = getattr(node, name)
            return node[...]

        return _flax.gathered(_flax.abstract_params(self.cell, self.in_features, self.param_dtype), find)


def _variables(tree: Any) -> Any:
    if isinstance(tree, dict):
        return nnx.Dict({name: _variables(value) for name, value in tree.items()})
    return nnx.Param(tree)


class RNN(_Home):
    """A cell, run by `jaxrnn.scan`, whose parameters live in a Flax model.

    Every parameter is an `nnx.Param` under the cell's own name, `rnn.w_h`; those of combinators are nested, `rnn.forward.w_h`,
    `rnn.layer_0.w_h`. The module has no other state, and no random numbers after it is built.

    Args:
        cell: any `jaxrnn.Cell`.
        in_features: size of the last axis of `xs`.
        time_major: whether time is the first axis of `xs`, `mask` and `reset`, rather than the one after the batch axes.
        dtype: what inputs and parameters are cast to before computing, and so the dtype of the output; not cast if None. The
            carry has at least float32.
        param_dtype: what parameters are initialised in.
        gradient: how derivatives are computed, as in `jaxrnn.scan`: `"bptt"`, `"checkpointed"` or `"autodiff"`.
        rngs: its `params` stream draws the parameters.

    Raises:
        TypeError: `cell` is not a `jaxrnn.Cell`, or `rngs` not a `flax.nnx.Rngs`.
        ValueError: `in_features` is not positive, or a parameter has the name of an attribute.

    >>> import jax, jax.numpy as jnp, jaxrnn.nnx
    >>> from flax import nnx
    >>> rnn = jaxrnn.nnx.RNN(jaxrnn.LSTM(4), in_features=3, rngs=nnx.Rngs(0))
    >>> carry, ys = rnn(jnp.ones((2, 7, 3)), lengths=jnp.array([7, 5]))
    >>> carry.h.shape, ys.shape
    ((2, 4), (2, 7, 4))
    >>> graphdef, params = nnx.split(rnn, nnx.Param)
    >>> sorted(params)
    ['b', 'w_h', 'w_x']
    """

    def __init__(
        self,
        cell: Cell,
        in_features: int,
        *,
        time_major: bool = False,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        gradient: Gradient = "bptt",
        rngs: nnx.Rngs,
    ) -> None:
        _flax.check_rnn(cell, "nnx", time_major)
        self.time_major = time_major
        self.gradient: Gradient = gradient
        self.deterministic = False
        super().__init__(cell, in_features, dtype, param_dtype, rngs)

    def __call__(
        self,
        xs: Any,
        carry: Carry = None,
        *,
        lengths: Any = None,
        mask: Any = None,
        reset: Any = None,
        reverse: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> tuple[Carry, Any]:
        """Run the cell over a sequence, as `jaxrnn.scan` does.

        Args:
            xs: inputs `[*batch, time, features]`, any number of batch axes; or a pytree of arrays that start `[*batch, time]`.
            carry: the carry before the first step; the cell's initial carry if left out.
            lengths: integers `[*batch]`: how many steps of each sequence are valid, the rest is padding on the right.
            mask: bool `[*batch, time]`: which steps are valid.
            reset: bool `[*batch, time]`: where a new sequence begins.
            reverse: walk from each sequence's last valid step to its first; `ys` stays in the order of `xs`.
            rngs: in training, what cells that draw (`Dropout`, `Zoneout`, ...) draw from: its `dropout` stream. Nothing is drawn
                without it, or while `deterministic` is True, which `model.eval()` sets and `model.train()` undoes.

        Returns:
            The carry after the last valid step, and `ys [*batch, time, out_features]`.

        Raises:
            ValueError: a shape or structure does not fit; the message says which and what was expected.
            TypeError: a dtype does not fit.
        """
        owner = "jaxrnn.nnx.RNN"
        _flax.sequence_feature_size(owner, self, xs)
        key = None if rngs is None or self.deterministic else rngs.dropout()
        return _flax.run(owner, self, self._params(), xs, carry, lengths=lengths, mask=mask, reset=reset, reverse=reverse, key=key)


class RNNCell(_Home, nnx.RNNCellBase):
    """A causal cell as a Flax `RNNCellBase`, for `flax.nnx.RNN`, `flax.nnx.Bidirectional` and code written around them.

    Its parameters have the names that they have in `RNN`. Flax's loop projects the input at every step: `RNN` is faster.

    Args:
        cell: any `jaxrnn.Cell` that needs no future input.
        in_features: size of the last axis of an input.
        dtype: what inputs and parameters are cast to before computing; not cast if None. The carry has at least float32.
        param_dtype: what parameters are initialised in.
        rngs: its `params` stream draws the parameters.

    Raises:
        TypeError: `cell` is not a `jaxrnn.Cell`, or needs the whole sequence (`Bidirectional`); `rngs` is not a `flax.nnx.Rngs`.
        ValueError: `in_features` is not positive, or a parameter has the name of an attribute.

    >>> import jax, jax.numpy as jnp, jaxrnn.nnx
    >>> from flax import nnx
    >>> cell = jaxrnn.nnx.RNNCell(jaxrnn.GRU(4), in_features=3, rngs=nnx.Rngs(0))
    >>> carry, ys = nnx.RNN(cell, return_carry=True)(jnp.ones((2, 7, 3)), seq_lengths=jnp.array([7, 5]))
    >>> carry.shape, ys.shape
    ((2, 4), (2, 7, 4))
    """

    def __init__(self, cell: Cell, in_features: int, *, dtype: Any = None, param_dtype: Any = jnp.float32, rngs: nnx.Rngs) -> None:
        _flax.check_rnn_cell(cell, "nnx")
        super().__init__(cell, in_features, dtype, param_dtype, rngs)

    def __call__(self, carry: Carry, inputs: Any) -> tuple[Carry, Array]:
        """Take one step: `carry` as `initialize_carry` gives it, `inputs [*batch, features]`, output `[*batch, out_features]`."""
        _flax.feature_size("jaxrnn.nnx.RNNCell", self.cell, inputs)
        params, inputs = _flax.cast((self._params(), inputs), self.dtype)
        return step(self.cell, params, carry, inputs)

    def initialize_carry(self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None) -> Carry:
        """The cell's initial carry for one step's input of shape `input_shape = (*batch, *features)`; `rngs` is not used.

        Raises:
            ValueError: a `carry_init` is given, which the cell would have to ignore.
        """
        del rngs
        if carry_init is not None:
            raise ValueError(
                f"jaxrnn.nnx.RNNCell: {type(self.cell).__name__} has an initial carry of its own, so carry_init must be None; "
                "pass another start as initial_carry to flax.nnx.RNN"
            )
        return self.cell.initial_carry(_flax.cast(self._params(), self.dtype), input_shape)

    @property
    def num_feature_axes(self) -> int:
        """How many trailing axes of an input are features."""
        return self.cell.feature_axes


def as_cell(module: nnx.Module) -> tuple[FunctionCell, Any]:
    """Any Flax NNX cell as a `jaxrnn.Cell`, and its parameters: for `jaxrnn.scan`, its engine, lengths, masks, resets and combinators.

    Args:
        module: a cell that needs no random stream in a step, with one feature axis.

    Returns:
        The cell, and the module's `nnx.Param` state, which is what the cell takes as parameters.

    Raises:
        TypeError: it is not an NNX cell.

    >>> import jax.numpy as jnp, jaxrnn
    >>> from flax import nnx
    >>> cell, params = as_cell(nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0)))
    >>> carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)))
    >>> ys.shape
    (7, 2, 4)
    """
    if not isinstance(module, nnx.RNNCellBase):
        raise TypeError(f"jaxrnn.nnx.as_cell: expected a flax.nnx.RNNCellBase such as nnx.GRUCell(...), got a {type(module).__name__}")
    graph, params, rest = nnx.split(module, nnx.Param, ...)
    leaves, form = jax.tree.flatten(rest)
    in_features: int = module.in_features  # type: ignore[attr-defined]  # all of Flax's have it
    form_of_y = jax.eval_shape(lambda: module(module.initialize_carry((1, in_features), nnx.Rngs(0)), jnp.ones((1, in_features)))[1])

    def rebuilt(params: Any) -> Any:
        return nnx.merge(graph, params, jax.tree.unflatten(form, leaves))

    cell = FunctionCell(
        lambda params, carry, x: rebuilt(params)(carry, x),
        lambda key, in_features, dtype: _flax.cast(params, dtype),
        lambda params, input_shape: rebuilt(params).initialize_carry(input_shape, nnx.Rngs(0)),
        form_of_y.shape[-1],
    )
    return cell, params
