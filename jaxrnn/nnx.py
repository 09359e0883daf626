"""jaxrnn in `flax.nnx`: the modules `RNN` and `RNNCell`.

`RNN` replaces `flax.nnx.RNN`; `docs/flax.md` compares their names. `RNNCell` is for Flax's own
`RNN` and `Bidirectional`. `rnn.params` are a cell's parameters for jaxrnn's functions, and
`RNN.from_params` puts parameters into a module.
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
from jaxrnn.core.check import check_flag, check_in_features, described
from jaxrnn.core.trees import Tree
from jaxrnn.drivers import step
from jaxrnn.methods import MethodLike

__all__ = ["RNN", "RNNCell", "as_cell"]


class _Home(nnx.Module):
    """A module that holds a cell, and its parameters, each an `nnx.Param` under its own name."""

    if TYPE_CHECKING:  # the parameters are attributes too

        def __getattr__(self, name: str) -> Any: ...

    def __init__(
        self, cell: Cell, in_features: int, dtype: Any, param_dtype: Any, rngs: nnx.Rngs
    ) -> None:
        owner = f"jaxrnn.nnx.{type(self).__name__}({type(cell).__name__})"
        in_features = check_in_features(cell, in_features)
        if not isinstance(rngs, nnx.Rngs):
            raise TypeError(
                f"{owner}: rngs is {described(rngs)}, expected a flax.nnx.Rngs such as nnx.Rngs(0)"
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
        """The parameters in the cell's own structure.

        `jaxrnn.scan`, `jaxrnn.step`, `jaxrnn.save`, `jaxrnn.convert` and `jaxrnn.streams` take
        them.
        """

        def find(path: tuple[str, ...]) -> Array:
            node: Any = self
            for name in path:
                node = getattr(node, name)
            return node[...]

        return names.gathered(abstract_params(self.cell, self.in_features, self.param_dtype), find)


def _variables(tree: Tree) -> Any:
    if isinstance(tree, dict):
        return nnx.Dict({name: _variables(value) for name, value in tree.items()})
    return nnx.Param(tree)


class RNN(_Home):
    """A module that runs a cell over sequences, by `jaxrnn.scan`.

    Every parameter is an `nnx.Param` with the name that it has in the cell, such as `rnn.w_h`.
    Combinators nest them: `rnn.forward.w_h`, or `rnn.layer_0.w_h`. `rnn.params` are all of them in
    the cell's own structure. The module of a noisy cell also keeps a random stream, `rnn.rngs`, as
    `nnx.Dropout` does. There is no other state.

    Args:
        cell: any `jaxrnn.Cell`.
        in_features: the size of the last axis of `xs`.
        outputs: which outputs the call returns: `"all"`, or one for each sequence. `"last"` is the
            output at the end of the cell's walk (`jaxrnn.sequences.last_output`); `"mean"` and
            `"max"` are taken over valid steps.
        time_major: whether time is the first axis of `xs`, `mask` and `reset`. By default, it
            follows the batch axes.
        deterministic: whether noisy cells such as `Dropout` and `Zoneout` draw nothing.
            `model.eval()` sets it to True, and `model.train()` to False.
        dtype: the dtype that inputs and parameters are cast to, and thus the dtype of the output.
            None casts nothing. The carry is at least float32.
        param_dtype: the dtype in which parameters are initialised.
        method: how the steps are run and differentiated, as in `jaxrnn.scan`.
        rngs: its stream `params` draws the parameters. The module of a noisy cell forks its stream
            `dropout`.

    Raises:
        TypeError: `cell` is not a `jaxrnn.Cell`, or `rngs` is not a `flax.nnx.Rngs`.
        ValueError: `in_features` is not positive, `outputs` or `method` is unknown, a flag is not a
            bool, or a parameter has the name of an attribute.

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
        home.check_rnn(cell, "nnx", outputs, time_major, method)
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
        """Build the module of a cell with these parameters.

        They may come from `jaxrnn.load`, from `jaxrnn.convert`, or from training without Flax.

        Args:
            cell: any `jaxrnn.Cell`.
            params: its parameters, in the cell's own structure.
            rngs: its stream `dropout` is forked for a noisy cell.
            **options: those of the constructor, except `in_features` and `param_dtype`, which
                follow from the parameters.

        Raises:
            TypeError: as in the constructor.
            ValueError: as in the constructor; or the parameters are not those of the cell.

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
        dtype = jnp.result_type(*jax.tree.leaves(tree) or [jnp.float32])
        build = partial(cls, cell, in_features, param_dtype=dtype, **options)
        module = nnx.eval_shape(lambda: build(rngs=nnx.Rngs(params=0)))
        nnx.update(module, jax.tree.map(jnp.asarray, tree))
        module._keep_stream(rngs)
        return module

    def _keep_stream(self, rngs: nnx.Rngs | None) -> None:
        """Fork the stream that a noisy cell draws from, if there is one."""
        if self.cell.noisy and rngs is not None and ("dropout" in rngs or "default" in rngs):
            self.rngs = rngs["dropout"].fork()

    def __call__(
        self,
        xs: Tree,
        carry: Carry = None,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | Array | None = None,
        **flags: Unpack[Flags],
    ) -> tuple[Carry, Any]:
        """Run the cell over a sequence, as `jaxrnn.scan` does.

        Args:
            xs: the inputs `[*batch, time, features]`, with any number of batch axes; or a pytree of
                arrays `[*batch, time, ...]`.
            carry: the carry before the first step; the cell's initial carry if left out.
            deterministic: overrides the module's own flag, which `model.train()` and `model.eval()`
                set.
            rngs: what a noisy cell draws from, in place of the module's own stream: a key, a
                stream, or an `nnx.Rngs` with a stream `dropout`.
            **flags: `lengths [*batch]`, `mask [*batch, time]`, `reset [*batch, time]`, `reverse`
                and `context`, as in `jaxrnn.scan`.

        Returns:
            The carry after the last valid step, and `ys [*batch, time, out_features]`. If `outputs`
            is not `"all"`, the second is `y [*batch, out_features]`.

        Raises:
            ValueError: a shape or a structure does not fit; or the cell is noisy, `deterministic`
                is False, and there is no stream to draw from.
            TypeError: a dtype does not fit, or a keyword is unknown.
        """
        owner = "jaxrnn.nnx.RNN"
        home.sequence_feature_size(owner, self, xs, flags)
        key = self._key(owner, deterministic, rngs)
        return home.run(owner, self, self.params, xs, carry, key, flags)

    def step(
        self,
        x: Tree,
        carry: Carry,
        *,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | nnx.RngStream | Array | None = None,
        context: Tree = None,
    ) -> tuple[Carry, Any]:
        """Take one step, as `jaxrnn.step` does.

        Args:
            x: the input of one step, `[*batch, features]`, with any number of batch axes; or a
                pytree of arrays.
            carry: the carry before the step. None means the cell's initial carry.
            deterministic: as in the call.
            rngs: as in the call.
            context: as in the call.

        Returns:
            The new carry, and `y [*batch, out_features]`.

        Raises:
            ValueError: as in the call.
            TypeError: a dtype does not fit, or the cell needs later inputs (`Bidirectional`).
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
        """Return the random key for the cell. It is None if the cell draws nothing."""
        if deterministic is None:
            deterministic = self.deterministic
        if check_flag(owner, "deterministic", deterministic) or not self.cell.noisy:
            return None
        source = self.rngs if rngs is None else rngs
        if source is None:
            raise ValueError(
                f"{owner}: {type(self.cell).__name__} draws random numbers in training, but there "
                "is no stream to draw from; pass rngs=nnx.Rngs(dropout=0) to the constructor or "
                "the call, or set deterministic=True, as model.eval() does"
            )
        if isinstance(source, Array):
            return source
        return (source["dropout"] if isinstance(source, nnx.Rngs) else source)()

    def set_view(self, deterministic: bool | None = None) -> None:
        """Set the module's flags. `nnx.view` calls it.

        Args:
            deterministic: whether noisy cells draw nothing.
        """
        if deterministic is not None:
            self.deterministic = deterministic


class RNNCell(_Home, nnx.RNNCellBase):
    """A causal cell as a Flax `RNNCellBase`.

    `flax.nnx.RNN`, `flax.nnx.Bidirectional` and code around them can run it. Its parameters have
    the same names as in `RNN`. `RNN` is faster, because Flax's loop projects the input at every
    step.

    Args:
        cell: any `jaxrnn.Cell` that is causal, takes no context and draws nothing.
        in_features: the size of the last axis of an input.
        dtype: the dtype that inputs and parameters are cast to. None casts nothing. The carry is at
            least float32.
        param_dtype: the dtype in which parameters are initialised.
        rngs: its stream `params` draws the parameters.

    Raises:
        TypeError: `cell` is not a `jaxrnn.Cell`, or is not causal, takes a context, or is noisy; or
            `rngs` is not a `flax.nnx.Rngs`.
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

    def __call__(self, carry: Carry, inputs: Tree) -> tuple[Carry, Array]:
        """Take one step.

        Args:
            carry: the carry, as `initialize_carry` returns it.
            inputs: the input of the step, `[*batch, features]`.

        Returns:
            The new carry, and the output `[*batch, out_features]`.

        Raises:
            ValueError: a shape or a structure does not fit.
            TypeError: a dtype does not fit.
        """
        home.feature_size("jaxrnn.nnx.RNNCell", self.cell, inputs)
        params, inputs = home.cast((self.params, inputs), self.dtype)
        return step(self.cell, params, carry, inputs)

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None
    ) -> Carry:
        """Return the cell's initial carry.

        Args:
            input_shape: the shape of one step's input, `(*batch, *features)`.
            rngs: not used.
            carry_init: must be None, because the cell defines its initial carry.

        Raises:
            ValueError: `carry_init` is not None.
        """
        del rngs
        if carry_init is not None:
            raise ValueError(
                f"jaxrnn.nnx.RNNCell: carry_init is given, expected None, because "
                f"{type(self.cell).__name__} defines its initial carry; pass another carry as "
                "initial_carry to flax.nnx.RNN"
            )
        return self.cell.initial_carry(home.cast(self.params, self.dtype), input_shape)

    @property
    def num_feature_axes(self) -> int:
        """How many trailing axes of an input are features."""
        return self.cell.feature_axes
