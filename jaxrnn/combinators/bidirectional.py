"""Two cells that read a sequence in opposite directions."""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.core.cell import Carry, Cell, Params, Take
from jaxrnn.core.check import check_choice, check_inner, check_no_variables
from jaxrnn.core.composite import Composite, Runner
from jaxrnn.core.trees import Tree


class BidirectionalParams(NamedTuple):
    """Parameters of `Bidirectional`.

    >>> import jax, jaxrnn
    >>> params = jaxrnn.Bidirectional(jaxrnn.GRU(4)).init(jax.random.key(0), in_features=3)
    >>> params.forward.w_x.shape, params.backward.w_x.shape
    ((3, 12), (3, 12))
    """

    forward: Params
    backward: Params


class BidirectionalCarry(NamedTuple):
    """Carry of `Bidirectional`.

    Before a run, `backward` is the carry at the end of each sequence. After it, `backward` is the
    carry at the beginning.

    >>> import jax.numpy as jnp, jaxrnn
    >>> carry = jaxrnn.BidirectionalCarry(forward=jnp.zeros((2, 4)), backward=jnp.ones((2, 4)))
    >>> carry.backward.shape
    (2, 4)
    """

    forward: Carry
    backward: Carry


MERGES: dict[str | None, Callable[[Array, Array], Tree]] = {
    "concat": lambda a, b: jnp.concatenate([a, b], axis=-1),
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: (a + b) / 2,
    "product": lambda a, b: a * b,
    None: lambda a, b: (a, b),
}


@dataclasses.dataclass(frozen=True)
class Bidirectional(Composite[BidirectionalParams, BidirectionalCarry]):
    """A forward cell and a backward cell, with merged outputs (Schuster & Paliwal 1997).

        y_t = merge(forward(x)_t, backward(x)_t)

    The backward cell starts at each sequence's own last valid step. The layer is not causal, so
    `jaxrnn.step` refuses it.

    Args:
        forward: the cell that reads forwards.
        backward: the cell that reads backwards. If left out, it is equal to `forward`, with
            parameters of its own.
        merge: `"concat"`, `"sum"`, `"mean"`, `"product"`, or None for the pair `(forward,
            backward)`.

    Raises:
        ValueError: `merge` is unknown, or it is a sum, mean or product of outputs of different
            sizes.
        TypeError: `forward` or `backward` is not a cell.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell = jaxrnn.Bidirectional(jaxrnn.GRU(4))
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> carry, ys = jaxrnn.scan(cell, params, jnp.ones((7, 2, 3)))
    >>> carry.backward.shape, ys.shape
    ((2, 4), (7, 2, 8))
    """

    forward: Cell
    backward: Cell = None  # type: ignore[assignment]  # __post_init__ puts a cell here
    _: dataclasses.KW_ONLY
    merge: Literal["concat", "sum", "mean", "product"] | None = "concat"

    def __post_init__(self) -> None:
        if self.backward is None:
            object.__setattr__(self, "backward", self.forward)
        check_inner(self, "forward", self.forward)
        check_inner(self, "backward", self.backward)
        check_choice(self, "merge", self.merge, tuple(MERGES))
        sizes = (self.forward.out_features, self.backward.out_features)
        if self.merge in ("sum", "mean", "product") and sizes[0] != sizes[1]:
            raise ValueError(
                f'Bidirectional: merge="{self.merge}" got outputs of sizes {sizes}, expected equal '
                'sizes; use merge="concat"'
            )

    def init(
        self, key: Array, in_features: int, dtype: DTypeLike = jnp.float32
    ) -> BidirectionalParams:
        k_f, k_b = jax.random.split(key)
        return BidirectionalParams(
            self.forward.init(k_f, in_features, dtype), self.backward.init(k_b, in_features, dtype)
        )

    def initial_carry(
        self, params: BidirectionalParams, input_shape: tuple[int, ...]
    ) -> BidirectionalCarry:
        check_no_variables(self, params)
        return BidirectionalCarry(
            self.forward.initial_carry(params.forward, input_shape),
            self.backward.initial_carry(params.backward, input_shape),
        )

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*self.forward.output_shape(input_shape)[:-1], self.out_features)

    def in_features(self, params: BidirectionalParams) -> int:
        """Return the size of the forward cell's input."""
        return self.forward.in_features(params.forward)

    def labels(self, params: BidirectionalParams) -> BidirectionalParams:
        backward = self.backward.labels(params.backward)
        return BidirectionalParams(self.forward.labels(params.forward), backward)

    def run(
        self, params: BidirectionalParams, xs: Tree, carry: BidirectionalCarry, runner: Runner
    ) -> tuple[BidirectionalCarry, Tree]:
        """Run one cell in the direction of the walk, and the other in the opposite direction."""
        against = runner.part(1).reversed()
        forward, ys = runner.part(0)(self.forward, params.forward, xs, carry.forward)
        backward, ys_backward = against(self.backward, params.backward, xs, carry.backward)
        return BidirectionalCarry(forward, backward), MERGES[self.merge](ys, ys_backward)

    def ends(self, ys: Tree, take: Take, backwards: bool = False) -> Tree:
        """Take the end of each direction."""
        forward, backward = self._halves(ys)
        return MERGES[self.merge](
            self.forward.ends(forward, take, backwards),
            self.backward.ends(backward, take, not backwards),
        )

    def _halves(self, ys: Tree) -> tuple[Array, Array]:
        """Split merged outputs into those of the two directions.

        Raises:
            ValueError: they cannot be separated, or `ys` is not the output of this cell.
        """
        if self.merge not in ("concat", None):
            raise ValueError(
                f'Bidirectional(merge="{self.merge}") has mixed both directions, so that their '
                'ends cannot be separated; use merge="concat" or None'
            )
        wanted = "a pair of outputs"
        if self.merge is None:
            if isinstance(ys, tuple | list) and len(ys) == 2:
                return ys[0], ys[1]
        else:
            if isinstance(ys, Array) and ys.shape[-1] == self.out_features:
                forward, backward = jnp.split(ys, [self.forward.out_features], axis=-1)
                return forward, backward
            wanted = f"one array with {self.out_features} features"
        shapes = jax.tree.map(jnp.shape, ys)
        raise ValueError(
            f"Bidirectional: ys has shape {shapes}, expected {wanted}; pass its own outputs"
        )

    @property
    def out_features(self) -> int:
        """The size of the merged output."""
        if self.merge is None:
            raise ValueError(
                "Bidirectional(merge=None) returns two outputs, expected one, because a layer "
                "above needs its size; choose another merge"
            )
        forward, backward = self.forward.out_features, self.backward.out_features
        return forward + backward if self.merge == "concat" else forward

    @property
    def causal(self) -> bool:
        return False
