"""Two cells that read a sequence from both ends."""

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
    """Parameters of `Bidirectional`."""

    forward: Params
    backward: Params


class BidirectionalCarry(NamedTuple):
    """Carry of `Bidirectional`; the backward one starts at each sequence's end and is final at its
    beginning.
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
    """One cell reads the sequence forwards, another backwards, and their outputs are merged
    (Schuster & Paliwal 1997).

    The backward cell starts at each sequence's own last valid step. There is no single step: the
    future is needed.

    Args:
        forward: the cell that reads forwards.
        backward: the cell that reads backwards; one like `forward`, with parameters of its own, if
            left out.
        merge: `"concat"`, `"sum"`, `"mean"`, `"product"`, or None for the pair `(forward,
            backward)`.

    Raises:
        ValueError: `merge` is another word, or the sizes differ where they may not.
        TypeError: an argument is not a cell, or a single step is asked for.

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
                f'Bidirectional: merge="{self.merge}" needs outputs of one size, got {sizes}; use '
                'merge="concat"'
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
        """What the forward cell says."""
        return self.forward.in_features(params.forward)

    def labels(self, params: BidirectionalParams) -> BidirectionalParams:
        backward = self.backward.labels(params.backward)
        return BidirectionalParams(self.forward.labels(params.forward), backward)

    def run(
        self, params: BidirectionalParams, xs: Tree, carry: BidirectionalCarry, runner: Runner
    ) -> tuple[BidirectionalCarry, Tree]:
        """Run one cell the way time is walked, the other against it."""
        against = runner.part(1).reversed()
        forward, ys = runner.part(0)(self.forward, params.forward, xs, carry.forward)
        backward, ys_backward = against(self.backward, params.backward, xs, carry.backward)
        return BidirectionalCarry(forward, backward), MERGES[self.merge](ys, ys_backward)

    def ends(self, ys: Tree, take: Take, backwards: bool = False) -> Tree:
        """Each direction's own."""
        forward, backward = self._halves(ys)
        return MERGES[self.merge](
            self.forward.ends(forward, take, backwards),
            self.backward.ends(backward, take, not backwards),
        )

    def _halves(self, ys: Tree) -> tuple[Array, Array]:
        """The two that were merged."""
        if self.merge not in ("concat", None):
            raise ValueError(
                f'Bidirectional(merge="{self.merge}") has mixed both directions, so that '
                'neither\'s end can be told; use merge="concat" or None'
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
        raise ValueError(f"Bidirectional: ys has shape {shapes}, expected {wanted}")

    @property
    def out_features(self) -> int:
        """The size of the merged output."""
        if self.merge is None:
            raise ValueError(
                "Bidirectional(merge=None) gives two outputs, which no layer can stand on; choose "
                "another merge"
            )
        forward, backward = self.forward.out_features, self.backward.out_features
        return forward + backward if self.merge == "concat" else forward

    @property
    def causal(self) -> bool:
        return False
