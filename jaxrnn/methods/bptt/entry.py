"""The two methods of the engine."""

import dataclasses
import warnings
from typing import Any, Literal

import jax
from jax import export

from jaxrnn.core import check as _check
from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.walk import Walk
from jaxrnn.methods.autodiff import Autodiff
from jaxrnn.methods.bptt import engine
from jaxrnn.methods.bptt.plan import Kept, make_plan
from jaxrnn.methods.bptt.seam import LawBrokenError
from jaxrnn.methods.method import Method


@dataclasses.dataclass(frozen=True)
class BPTT(Method):
    """Back-propagation through time in blocks, the default.

    The forward pass keeps the carry after each step, or the pre-activations. The backward pass
    rebuilds a block of time with large products, walks back through it, and forms each weight's
    gradient as one large product.

    Args:
        block: steps in a block; chosen from the sizes if left out.
        keep: `"carries"`, which are rebuilt into pre-activations with one product per block, or
            `"sums"`, the pre-activations, which save it; chosen from the sizes if left out.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell, xs = jaxrnn.GRU(4), jnp.ones((7, 2, 3))
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> method = jaxrnn.methods.BPTT(block=4, keep="carries")
    >>> jaxrnn.scan(cell, params, xs, method=method)[1].shape
    (7, 2, 4)
    """

    block: int | None = None
    keep: Literal["carries", "sums"] | None = None

    def __post_init__(self) -> None:
        if self.block is not None:
            _check.check_fields(self, _check.check_size, "block")
        _check.check_choice(self, "keep", self.keep, (None, "carries", "sums"))

    def run(
        self, cell: Cell, params: Params, xs: Any, carry: Carry, walk: Walk
    ) -> tuple[Carry, Any]:
        """Plan, and run the engine."""
        return _run(cell, params, xs, carry, walk, self.block, self.keep)


@dataclasses.dataclass(frozen=True)
class Checkpointed(Method):
    """Back-propagation through time that keeps the carries between blocks alone, for long
    sequences.

    With blocks of √T steps it keeps O(√T) carries, and takes every step twice (Chen et al. 2016).

    Args:
        block: steps in a block; about √T if left out.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell, xs = jaxrnn.GRU(4), jnp.ones((7, 2, 3))
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> jaxrnn.scan(cell, params, xs, method="checkpointed")[1].shape
    (7, 2, 4)
    """

    block: int | None = None

    def __post_init__(self) -> None:
        if self.block is not None:
            _check.check_fields(self, _check.check_size, "block")

    def run(
        self, cell: Cell, params: Params, xs: Any, carry: Carry, walk: Walk
    ) -> tuple[Carry, Any]:
        """Plan, and run the engine."""
        return _run(cell, params, xs, carry, walk, self.block, "nothing")


def _run(
    cell: Cell,
    params: Params,
    xs: Any,
    carry: Carry,
    walk: Walk,
    block: int | None,
    keep: Kept | None,
) -> tuple[Carry, Any]:
    """The engine, or JAX's derivative where the engine cannot: there is no step, time is a symbol
    (`jax.export`) and cannot be cut, or the step breaks the law of `affine`, of which a warning
    tells."""
    time = jax.tree.leaves(xs)[0].shape[0]
    if export.is_symbolic_dim(time) or time == 0:
        return Autodiff().run(cell, params, xs, carry, walk)
    flags = walk.flags()
    try:
        plan = make_plan(cell, params, xs, carry, flags, walk.reverse, block, keep)
    except LawBrokenError as broken:
        warnings.warn(
            f"{type(cell).__name__}.step: {broken}; scan uses JAX's own derivative for it, which "
            "is "
            "slower and needs more memory. jaxrnn.Cell states the law; "
            'method="autodiff" asks for this without a warning',
            stacklevel=2,
        )
        return Autodiff().run(cell, params, xs, carry, walk)
    return engine.run(plan, params, xs, carry, flags)
