"""Step functions that were not written for jaxrnn, as cells.

The step is traced. Its matrix products are sorted by what they depend on:

* a product of parameters and input moves into `project`;
* a product of parameters and carry goes through `affine`;
* products with the same left factor, precision and dtype become one product.

A product keeps its precision. An effect, such as a debug print, happens in its own step. Everything
else is computed unchanged.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.core.affine import Affine
from jaxrnn.core.affine import affine as default_affine
from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.traced.graph import trace
from jaxrnn.core.traced.values import evaluate, read
from jaxrnn.core.trees import Tree

__all__ = ["FunctionCell"]


@dataclasses.dataclass(frozen=True)
class FunctionCell(Cell):
    """A cell from a step function that knows nothing of `affine` and `project`.

    Its matrix products run as those of any other cell do: the input is projected for many steps at
    once, and BPTT forms each weight gradient as one product.

    An effect in the function, such as `jax.debug.print`, happens at every step. It happens again
    when BPTT recomputes the step for its derivative. `method="autodiff"` recomputes no step.

    Args:
        function: `(params, carry, x) -> (carry, y)`, one step for any number of batch axes.
        make_params: `(key, in_features, dtype) -> params`.
        make_carry: `(params, input_shape) -> carry`; `input_shape` is `(*batch, *features)`.
        size: the size of the last axis of y.

    Raises:
        TypeError: one of the functions is not callable, or `function` closes over a value that is
            being traced.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> def step(params, h, x):
    ...     h = jnp.tanh(x @ params["w"] + h @ params["v"])
    ...     return h, h
    >>> def make_params(key, in_features, dtype):
    ...     return {"w": jnp.ones((in_features, 4), dtype), "v": jnp.eye(4, dtype=dtype)}
    >>> def make_carry(params, input_shape):
    ...     return jnp.zeros((*input_shape[:-1], 4))
    >>> cell = FunctionCell(step, make_params, make_carry, size=4)
    >>> h, ys = jaxrnn.scan(cell, cell.init(jax.random.key(0), 3), jnp.ones((7, 2, 3)))
    >>> ys.shape
    (7, 2, 4)
    """

    function: Callable[[Params, Carry, Tree], tuple[Carry, Tree]]
    make_params: Callable[..., Params]
    make_carry: Callable[[Params, tuple[int, ...]], Carry]
    size: int

    def __post_init__(self) -> None:
        for name, form in (
            ("function", "(params, carry, x) -> (carry, y)"),
            ("make_params", "(key, in_features, dtype) -> params"),
            ("make_carry", "(params, input_shape) -> carry"),
        ):
            if not callable(value := getattr(self, name)):
                raise TypeError(f"FunctionCell: {name} is {value!r}, expected a function {form}")

    def init(self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32) -> Params:
        return self.make_params(key, in_features, dtype)

    def initial_carry(self, params: Params, input_shape: tuple[int, ...]) -> Carry:
        return self.make_carry(params, input_shape)

    def project(self, params: Params, xs: Tree) -> tuple[Tree, list[Array]]:
        """Return the input, and every value that the step computes from it without the carry."""
        shape = jax.tree.leaves(xs)[0].shape
        carry = jax.eval_shape(lambda params: self.make_carry(params, shape), params)
        graph = trace(self.function, params, carry, xs)
        known = dict(zip(graph.params + graph.x, jax.tree.leaves((params, xs)), strict=True))
        values = evaluate(graph, graph.input_only, known, default_affine)
        return xs, [values[name] for name in graph.frontier]

    def step(
        self,
        params: Params,
        carry: Carry,
        u: tuple[Tree, list[Array]],
        affine: Affine = default_affine,
    ) -> tuple[Carry, Tree]:
        x, computed = u
        graph = trace(self.function, params, carry, x)
        names = graph.params + graph.carry + graph.x + graph.frontier
        arrays = jax.tree.leaves((params, carry, x, computed))
        known = dict(zip(names, arrays, strict=True))
        values = evaluate(graph, graph.recurrent, known, affine)
        return jax.tree.unflatten(graph.structure, [read(values, atom) for atom in graph.outputs])

    @property
    def out_features(self) -> int:
        return self.size
