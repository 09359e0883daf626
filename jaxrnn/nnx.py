"""jaxrnn at home in `flax.nnx`: `RNN`, and `RNNCell` for Flax's own `RNN` and `Bidirectional`.

`RNN` takes the place of `flax.nnx.RNN` (`docs/flax.md` says what is called what). Between a Flax
model and jaxrnn's functions go `rnn.params` and `RNN.from_params`.
"""

from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxrnn._flax import home, names
from jaxrnn._flax.nnx_cells import as_cell
from jaxrnn.core.call import Flags, check_cell
from jaxrnn.core.cell import Carry, Cell, Params, abstract_params
from jaxrnn.core.check import check_flag, check_in_features
from jaxrnn.core.trees import Tree
from jaxrnn.drivers import step
from jaxrnn.methods import MethodLike

__all__ = ["RNN", "RNNCell", "as_cell"]


class _Home(nnx.Module):
    """A cell, and its parameters as `nnx.Param`s under the cell's own names."""

    if TYPE_CHECKING:  # the parameters are attributes too

        def __getattr__(self, name: str) -> Any: ...

    def __init__(
        self, cell: Cell, in_features: int, dtype: Any, param_dtype: Any, rngs: nnx.Rngs
    ) -> None:
        owner = f"jaxrnn.nnx.{type(self).__name__}({type(cell).__name__})"
        in_features = check_in_features(cell, in_features)
        if not isinstance(rngs, nnx.Rngs):
            raise TypeError(
                f"{owner}: rngs is a {type(rngs).__name__}, expected a flax.nnx.Rngs such as "
                "nnx.Rngs(0)"
            )
        self.cell = cell
        self.in_features = in_features
        self.dtype = dtype
        self.param_dtype = param_dtype
        for name, value in names.nested(cell.init(rngs.params(), in_features, param_dtype)).items():
            if name in vars(self) or hasattr(type(self), name):
                raise ValueError(
                    f"{owner}: parameter {name!r} has the name of an attribute of the module; "
                    "rename it in the cell"
                )
            setattr(self, name, _variables(value))

    @property
    def params(self) -> Params:
        """The parameters as the cell has them, for `jaxrnn.scan`, `jaxrnn.step`, `jaxrnn.save`,
        `jaxrnn.convert` and `jaxrnn.streams`.
        """

        def find(path: tuple[str, ...]) -> Array:
            node: Any = self
            for name in path:
                node = getattr(node, name)
            return node[...]

        return names.gathered(abstract_params(self.cell, self.in_features, self.param_dtype), find)


def _variables(tree: Any) -> Any:
    if isinstance(tree, dict):
        return nnx.Dict({name: _variables(value) for name, value in tree.items()})
    return nnx.Param(tree)


class RNN(_Home):
    """A cell, run by `jaxrnn.scan`, whose parameters live in a Flax model.

    Every parameter is an `nnx.Param` under the cell's own name, `rnn.w_h`; those of combinators are
    nested, `rnn.forward.w_h`, `rnn.layer_0.w_h`; `rnn.params` are all of them as the cell has them.
    The module of a cell that draws random numbers keeps a stream for them, `rnn.rngs`, as
    `nnx.Dropout` does; otherwise it has no other state.

    Args:
        cell: any `jaxrnn.Cell`.
        in_features: size of the last axis of `xs`.
        outputs: `"all"`, or one for each sequence: `"last"`, at the end of the cell's walk (as
            `jaxrnn.sequences.last_output`), `"mean"` or `"max"` over valid steps.
        time_major: whether time is the first axis of `xs`, `mask` and `reset`, rather than the one
            after the batch axes.
        deterministic: whether cells that draw (`Dropout`, `Zoneout`, ...) draw nothing;
            `model.eval()` sets it, and `model.train()` undoes that.
        dtype: what inputs and parameters are cast to before computing, and so the dtype of the
            output; not cast if None. The carry has at least float32.
        param_dtype: what parameters are initialised in.
        method: how the steps are run and differentiated, as in `jaxrnn.scan`.
        rngs: its `params` stream draws the parameters; of its `dropout` stream, a cell that draws
            gets a fork.

    Raises:
        TypeError: `cell` is not a `jaxrnn.Cell`, or `rngs` not a `flax.nnx.Rngs`.
        ValueError: `in_features` is not positive, `outputs` is another word, a flag is no bool, or
            a parameter has the name of an attribute.

    >>> import jax, jax.numpy as jnp, jaxrnn.nnx
    >>> from flax import nnx
    >>> rnn = jaxrnn.nnx.RNN(jaxrnn.LSTM(4), in_features=3, rngs=nnx.Rngs(0))
    >>> carry, ys = rnn(jnp.ones((2, 7, 3)), lengths=jnp.array([7, 5]))
    >>> carry.h.shape, ys.shape
    ((2, 4), (2, 7, 4))
    >>> carry, y = rnn.step(jnp.ones((2, 3)), carry)
    >>> graphdef, params = nnx.split(rnn, nnx.Param)
    >>> sorted(params)
    ['b', 'w_h', 'w_x']
    """

    def __init__(
        self,
        cell: Cell,
        in_features: int,
        *,
        outputs: home.Outputs = "all",
        time_major: bool = False,
        deterministic: bool = False,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        method: MethodLike = "bptt",
        rngs: nnx.Rngs,
    ) -> None:
        home.check_rnn(cell, "nnx", outputs, time_major)
        self.outputs: home.Outputs = outputs
        self.time_major = time_major
        self.method: MethodLike = method
        self.deterministic = check_flag("jaxrnn.nnx.RNN", "deterministic", deterministic)
        self.rngs: nnx.RngStream | None = nnx.data(None)
        super().__init__(cell, in_features, dtype, param_dtype, rngs)
        self._keep_stream(rngs)

    @classmethod
    def from_params(
        cls, cell: Cell, params: Params, *, rngs: nnx.Rngs | None = None, **options: Any
    ) -> "RNN":
        """The module of a cell with these parameters, which `jaxrnn.load`, `jaxrnn.convert` or a
        training without Flax gave.

        Args:
            cell: any `jaxrnn.Cell`.
            params: its parameters.
            rngs: its `dropout` stream is forked for a cell that draws.
            **options: those of the constructor but `in_features` and `param_dtype`, which the
                parameters tell.

        Raises:
            TypeError: as the constructor.
            ValueError: as the constructor; or the parameters are not those of the cell.

        >>> import jax, jax.numpy as jnp, jaxrnn.nnx
        >>> cell = jaxrnn.GRU(4)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> rnn = jaxrnn.nnx.RNN.from_params(cell, params, outputs="last")
        >>> rnn(jnp.ones((2, 7, 3)))[1].shape
        (2, 4)
        """
        check_cell(cell, "nnx.RNN.from_params")
        tree = names.nested(params)
        in_features = names.in_features("jaxrnn.nnx.RNN.from_params", cell, names.flat(tree))
        dtype = jnp.result_type(*jax.tree.leaves(tree))
        build = partial(cls, cell, in_features, param_dtype=dtype, **options)
        module = nnx.eval_shape(lambda: build(rngs=nnx.Rngs(params=0)))
        nnx.update(module, jax.tree.map(jnp.asarray, tree))
        module._keep_stream(rngs)
        return module

    def _keep_stream(self, rngs: nnx.Rngs | None) -> None:
        """Fork the stream that the cell draws from, if it draws and there is one."""
        if self.cell.noisy and rngs is not None and ("dropout" in rngs or "default" in rngs):
            self.rngs = rngs["dropout"].fork()

    def __call__(
        self,
        xs: Any,
        carry: Carry = None,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | Array | None = None,
        **flags: Unpack[Flags],
    ) -> tuple[Carry, Any]:
        """Run the cell over a sequence, as `jaxrnn.scan` does.

        Args:
            xs: inputs `[*batch, time, features]`, any number of batch axes; or a pytree of arrays
                that start `[*batch, time]`.
            carry: the carry before the first step; the cell's initial carry if left out.
            deterministic: goes before that of the module, which `model.train()` and `model.eval()`
                set.
            rngs: what a cell that draws draws from, instead of the module's own stream: a key, a
                stream, or the `dropout` stream of an `nnx.Rngs`.
            **flags: `lengths [*batch]`, `mask [*batch, time]`, `reset [*batch, time]`, `reverse`
                and `context`, as in `jaxrnn.scan`.

        Returns:
            The carry after the last valid step, and `ys [*batch, time, out_features]`; or `y
            [*batch, out_features]`, unless `outputs` is `"all"`.

        Raises:
            ValueError: a shape or structure does not fit; the message says which and what was
                expected. Or the cell draws, and there is nothing to draw from.
            TypeError: a dtype does not fit.
        """
        owner = "jaxrnn.nnx.RNN"
        home.sequence_feature_size(owner, self, xs)
        key = self._key(owner, deterministic, rngs)
        return home.run(owner, self, self.params, xs, carry, key, flags)

    def step(
        self,
        x: Any,
        carry: Carry,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | Array | None = None,
        context: Tree = None,
    ) -> tuple[Carry, Any]:
        """Take one step, as `jaxrnn.step` does.

        Args:
            x: an input `[*batch, features]`, any number of batch axes; or a pytree of arrays.
            carry: the carry; None for the cell's initial one.
            deterministic: as in the call.
            rngs: as in the call.
            context: as in the call.

        Returns:
            The new carry, and `y [*batch, out_features]`.

        Raises:
            ValueError: as the call.
            TypeError: a dtype does not fit, or the cell needs the future (`Bidirectional`).
        """
        owner = "jaxrnn.nnx.RNN.step"
        home.feature_size(owner, self.cell, x)
        key = self._key(owner, deterministic, rngs)
        return home.take_step(self, self.params, x, carry, key, context)

    def _key(
        self,
        owner: str,
        deterministic: bool | None,
        rngs: nnx.Rngs | nnx.RngStream | Array | None,
    ) -> Array | None:
        """What the cell draws from, if it draws."""
        if deterministic is None:
            deterministic = self.deterministic
        if check_flag(owner, "deterministic", deterministic) or not self.cell.noisy:
            return None
        source = self.rngs if rngs is None else rngs
        if source is None:
            raise ValueError(
                f"{owner}: {type(self.cell).__name__} draws random numbers in training, and there "
                "is no stream to draw from; pass rngs=nnx.Rngs(dropout=0) to the constructor or "
                "the call, or set deterministic=True, as model.eval() does"
            )
        if isinstance(source, Array):
            return source
        return (source["dropout"] if isinstance(source, nnx.Rngs) else source)()

    def set_view(self, deterministic: bool | None = None) -> None:
        """What `nnx.view` calls.

        Args:
            deterministic: whether cells that draw draw nothing.
        """
        if deterministic is not None:
            self.deterministic = deterministic


class RNNCell(_Home, nnx.RNNCellBase):
    """A causal cell as a Flax `RNNCellBase`, for `flax.nnx.RNN`, `flax.nnx.Bidirectional` and code
    written around them.

    Its parameters have the names that they have in `RNN`. Flax's loop projects the input at every
    step: `RNN` is faster.

    Args:
        cell: any `jaxrnn.Cell` that needs no future input, takes no context and draws nothing.
        in_features: size of the last axis of an input.
        dtype: what inputs and parameters are cast to before computing; not cast if None. The carry
            has at least float32.
        param_dtype: what parameters are initialised in.
        rngs: its `params` stream draws the parameters.

    Raises:
        TypeError: `cell` is not a `jaxrnn.Cell`, or not one that Flax can step; `rngs` is not a
            `flax.nnx.Rngs`.
        ValueError: `in_features` is not positive, or a parameter has the name of an attribute.

    >>> import jax, jax.numpy as jnp, jaxrnn.nnx
    >>> from flax import nnx
    >>> cell = jaxrnn.nnx.RNNCell(jaxrnn.GRU(4), in_features=3, rngs=nnx.Rngs(0))
    >>> rnn = nnx.RNN(cell, return_carry=True)
    >>> carry, ys = rnn(jnp.ones((2, 7, 3)), seq_lengths=jnp.array([7, 5]))
    >>> carry.shape, ys.shape
    ((2, 4), (2, 7, 4))
    """

    def __init__(
        self,
        cell: Cell,
        in_features: int,
        *,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        home.check_rnn_cell(cell, "nnx")
        super().__init__(cell, in_features, dtype, param_dtype, rngs)

    def __call__(self, carry: Carry, inputs: Any) -> tuple[Carry, Array]:
        """Take one step: `carry` as `initialize_carry` gives it, `inputs [*batch, features]`,
        output `[*batch, out_features]`.
        """
        home.feature_size("jaxrnn.nnx.RNNCell", self.cell, inputs)
        params, inputs = home.cast((self.params, inputs), self.dtype)
        return step(self.cell, params, carry, inputs)

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None
    ) -> Carry:
        """The cell's initial carry for one step's input of shape `input_shape = (*batch,
        *features)`; `rngs` is not used.

        Raises:
            ValueError: a `carry_init` is given, which the cell would have to ignore.
        """
        del rngs
        if carry_init is not None:
            raise ValueError(
                f"jaxrnn.nnx.RNNCell: {type(self.cell).__name__} has an initial carry of its own, "
                "so carry_init must be None; "
                "pass another start as initial_carry to flax.nnx.RNN"
            )
        return self.cell.initial_carry(home.cast(self.params, self.dtype), input_shape)

    @property
    def num_feature_axes(self) -> int:
        """How many trailing axes of an input are features."""
        return self.cell.feature_axes
