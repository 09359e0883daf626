"""What the engine chooses by the platform that a program is compiled for, one class for each.

A CPU is bound by its caches: blocks are short, and how a product is laid out decides. A GPU is
bound by how many kernels it launches: blocks are long, their loops are written out a few steps at a
time, and no kernel is spent on copies. A TPU compiler plans its memory itself and likes long
blocks.
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple

import jax

Keep = Literal["carries", "preactivations", "all", "nothing"]
"""What is kept of each step: the carry after it, the pre-activations as `seam.keeping` records
them, both, or neither. The carry before each block is always kept.
"""


class Sizes(NamedTuple):
    """Those of a problem: at each step, and for each of its rows, the cell multiplies for `width`
    pre-activations.
    """

    time: int
    rows: int  # of the batch and of any other axes, such as a picture's
    width: int  # of all products of a step together
    inputs: int  # numbers in an input, of a row
    projections: int  # and in what it is projected to
    projecting: int  # multiply-adds for a pre-activation's part of a projection
    stepping: int  # and for the rest of it, in the loop


@dataclasses.dataclass(frozen=True)
class Platform(ABC):
    """The choices for one platform."""

    unroll: ClassVar[int] = 1
    """Steps that one turn of a loop takes."""

    flattens: ClassVar[bool] = False
    """Whether the products of a whole block have one axis of rows in place of time and batch.
    Where the compiler splits the batch over devices, that would gather it."""

    copies_operands: ClassVar[bool] = False
    """Whether what a weight's gradient contracts over rows is turned first."""

    def block(self, sizes: Sizes, checkpointed: bool) -> int:
        """Steps in a block. Where only carries at borders are kept, blocks are about √T, so that
        both are few.
        """
        if not checkpointed and self.takes_one_block(sizes):
            return sizes.time
        fewest = math.isqrt(sizes.time) if checkpointed else 1
        return _near_divisor(sizes.time, max(fewest, self.steps_in_block(sizes)))

    def block_forward(self, sizes: Sizes) -> int:
        """Steps in a block where nobody differentiates."""
        return _near_divisor(sizes.time, self.steps_in_block_forward(sizes))

    def projects_at_once(self, sizes: Sizes) -> bool:
        """Whether all inputs are projected before the first block."""
        del sizes
        return False

    def keep(self, rebuilding: int) -> Keep:
        """What is kept of each step, for so many multiply-adds that rebuild a pre-activation."""
        del rebuilding
        return "carries"

    def takes_one_block(self, sizes: Sizes) -> bool:
        """Whether all of time is one block."""
        del sizes
        return False

    @abstractmethod
    def steps_in_block(self, sizes: Sizes) -> int:
        """About how many steps a block has."""

    @abstractmethod
    def steps_in_block_forward(self, sizes: Sizes) -> int:
        """About how many steps a block has where nobody differentiates."""


class CPU(Platform):
    """Measured on CPUs with AVX2 and AVX-512 (benchmarks/results)."""

    flattens = True  # a product over two axes costs XLA a transposed copy in its derivative
    copies_operands = True  # contracting over rows takes up to twice the time

    most_rows: ClassVar[int] = 1024
    most_numbers: ClassVar[int] = 2**18
    most_numbers_in_one: ClassVar[int] = 2**18
    most_numbers_forward: ClassVar[int] = 2**20
    most_numbers_projected: ClassVar[int] = 2**22
    much_to_rebuild: ClassVar[int] = 450
    fewest_rows: ClassVar[int] = 256
    many_rows: ClassVar[int] = 32
    fewest_steps: ClassVar[int] = 4
    parts: ClassVar[int] = 8

    def projects_at_once(self, sizes: Sizes) -> bool:
        """If that makes them no larger, and a cache holds them: a block would copy its part of the
        inputs, and its part of their gradient.
        """
        all_numbers = sizes.time * sizes.rows * sizes.projections
        return sizes.projections <= sizes.inputs and all_numbers <= self.most_numbers_projected

    def keep(self, rebuilding: int) -> Keep:
        """Carries, which are fewer numbers, unless rebuilding is most of a block's work: a product
        of some hundred numbers runs as fast in the loop as with all rows of a block.
        """
        return "preactivations" if rebuilding >= self.much_to_rebuild else "carries"

    def takes_one_block(self, sizes: Sizes) -> bool:
        """If caches hold what one block needs: nothing is then rebuilt."""
        return sizes.time * sizes.rows * sizes.width <= self.most_numbers_in_one

    def steps_in_block(self, sizes: Sizes) -> int:
        """The products of a block are `[steps * rows, width]`: tall enough to be fast, small enough
        to stay in a cache, and a small part of all time, for its temporaries are some thirty
        numbers per unit and step. They have at least half as many rows as the weight, or else most
        of a block's work would be to add to the weight's gradient. A step whose products are tall
        enough by themselves, as those of pictures are, is a block.
        """
        rows, width = max(sizes.rows, 1), max(sizes.width, 1)
        if rows >= self.most_rows:
            return 1
        most = self.most_numbers // (rows * width)
        wanted = min(most, max(sizes.time // self.parts, self.fewest_rows // rows))
        return max(self.fewest_steps, wanted, sizes.stepping // 2 // rows)

    def steps_in_block_forward(self, sizes: Sizes) -> int:
        """As many as a cache holds inputs and projections of. In a small problem a step projects
        its own input, if that is the lesser part of its work and rows are many: writing and reading
        the projections would take longer.
        """
        lesser = sizes.projecting < sizes.stepping and sizes.rows >= self.many_rows
        if lesser and self.takes_one_block(sizes):
            return 1
        widest = max(sizes.width, sizes.inputs, 1)
        return self.most_numbers_forward // (widest * max(sizes.rows, 1))


class GPU(Platform):
    """Counted in programs compiled for an H100 (`benchmarks/ahead`).

    A step of small products takes about as long as its kernels take to launch, the loop's own
    counter and the slices that it reads and writes included. Eight steps in a turn share some of
    them, and the compiler fuses across steps. Carries are kept, for pre-activations are written by
    one kernel for each gate, and would need one more loop to rebuild the carries.
    """

    unroll = 8
    fewest_parts: ClassVar[int] = 4
    parts: ClassVar[int] = 16
    some_steps: ClassVar[int] = 32
    most_steps: ClassVar[int] = 64
    most_numbers: ClassVar[int] = 2**24

    def steps_in_block(self, sizes: Sizes) -> int:
        """A part of all time, for a block's temporaries add to what is kept. A block costs some
        thirty launches of its own, which 32 steps outweigh.
        """
        time = sizes.time
        steps = max(time // self.parts, min(time // self.fewest_parts, self.some_steps))
        return min(steps, self.steps_in_block_forward(sizes))

    def steps_in_block_forward(self, sizes: Sizes) -> int:
        """Many, at the cost of as many projections."""
        return min(self.most_steps, self.most_numbers // max(sizes.rows * sizes.width, 1))


class TPU(GPU):
    """Counted in the compiler's own estimate of cycles, for a v5e (`benchmarks/ahead`).

    Its compiler gains nothing from loops that are written out.
    """

    unroll = 1
    most_numbers_in_block: ClassVar[int] = 2**22
    most_rows_in_block: ClassVar[int] = 2**14

    def steps_in_block(self, sizes: Sizes) -> int:
        """As many as leave a block's temporaries in the chip's own memory, where they are no part
        of what the program allocates: each block costs cycles of its own. Pictures, which have many
        rows, have patches of them, too.
        """
        rows, width = max(sizes.rows, 1), max(sizes.width, 1)
        most = min(self.most_numbers_in_block // width, self.most_rows_in_block)
        return min(self.most_steps, most // rows)


PLATFORMS: dict[str, Platform] = {"cpu": CPU(), "gpu": GPU(), "tpu": TPU()}
"""By the names of `jax.default_backend()`."""


def platform_of(name: str | None) -> Platform:
    """The platform of a name, or the process's own; one that is not known is taken for a GPU."""
    return PLATFORMS.get(name or jax.default_backend(), PLATFORMS["gpu"])


def _near_divisor(time: int, wanted: int) -> int:
    """The nearest divisor of `time` if one is near: a shorter last block is compiled by itself."""
    wanted = max(wanted, 1)
    if wanted >= time:
        return time
    near = [k for k in range(wanted // 2 + 1, 2 * wanted) if time % k == 0]
    return min(near, key=lambda k: max(k, wanted) / min(k, wanted), default=wanted)
