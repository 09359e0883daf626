"""The choices that depend on the platform a program is compiled for. Each platform has a class.

The speed of a CPU depends on its caches: a block fits them, and operands are copied where another
layout multiplies faster. The speed of a GPU depends on the number of kernels it launches: blocks
are long, their loops are unrolled, and no kernel copies an operand. A TPU's compiler plans the
memory itself: blocks are long.
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple

import jax

Keep = Literal["carries", "preactivations", "all", "nothing"]
"""What the forward pass keeps of each step: the carry after it, its pre-activations (as
`seam.keeping` records them), both, or neither. It always keeps the carry before each block.
"""


class Sizes(NamedTuple):
    """The sizes that a plan depends on.

    A *row* is one row of a step's products. A batch of pictures has a row for each pixel.
    """

    time: int
    rows: int  # in a step
    width: int  # pre-activations of a row, those of all products of a step together
    inputs: int  # numbers in the input of a row
    projections: int  # numbers in the projected input of a row
    projecting: int  # multiply-adds that the projection takes for each pre-activation
    stepping: int  # multiply-adds that the step takes for each pre-activation


@dataclasses.dataclass(frozen=True)
class Platform(ABC):
    """The choices for one platform."""

    unroll: ClassVar[int] = 1
    """Steps that one iteration of a loop takes."""

    flattens: ClassVar[bool] = False
    """Whether the products of a whole block have a single axis of rows, in place of time and batch.
    If the compiler splits the batch over devices, such an axis makes it gather the batch."""

    copies_operands: ClassVar[bool] = False
    """Whether the operand of a weight gradient is transposed before the product contracts its rows.
    """

    def block(self, sizes: Sizes, checkpointed: bool) -> int:
        """Return the number of steps in a block.

        `checkpointed` says that only the carries between blocks are kept. Blocks then have about √T
        steps or more, so that there are few such carries.
        """
        if not checkpointed and self.takes_one_block(sizes):
            return sizes.time
        fewest = math.isqrt(sizes.time) if checkpointed else 1
        return _near_divisor(sizes.time, max(fewest, self.steps_in_block(sizes)))

    def block_forward(self, sizes: Sizes) -> int:
        """Return the number of steps in a block of a call that is not differentiated."""
        return _near_divisor(sizes.time, self.steps_in_block_forward(sizes))

    def projects_at_once(self, sizes: Sizes, differentiated: bool) -> bool:
        """Return whether the inputs of all steps are projected before the first block."""
        del sizes, differentiated
        return False

    def keep(self, rebuilding: int, one_block: bool) -> Keep:
        """Return what to keep of each step of a block of several.

        `rebuilding` counts the multiply-adds that rebuild one pre-activation from kept carries.
        `one_block` says whether the block holds all of time.
        """
        del rebuilding, one_block
        return "carries"

    def takes_one_block(self, sizes: Sizes) -> bool:
        """Return whether one block holds all of time."""
        del sizes
        return False

    @abstractmethod
    def steps_in_block(self, sizes: Sizes) -> int:
        """Return the wanted number of steps in a block; `block` prefers a near divisor of T."""

    @abstractmethod
    def steps_in_block_forward(self, sizes: Sizes) -> int:
        """Return the wanted number of steps in a block of a call that is not differentiated."""


class CPU(Platform):
    """Measured on a CPU with AVX-512 (`benchmarks/results`, `docs/performance.md`)."""

    flattens = True  # the derivative of a product over two axes of rows makes a transposed copy
    copies_operands = True  # a product that contracts the rows takes up to twice the time

    most_rows: ClassVar[int] = 1024
    most_numbers: ClassVar[int] = 2**18
    most_numbers_in_one: ClassVar[int] = 2**18
    most_numbers_forward: ClassVar[int] = 2**20
    most_numbers_projected: ClassVar[int] = 2**21
    much_narrower: ClassVar[int] = 4
    much_to_rebuild: ClassVar[int] = 400
    fewest_rows: ClassVar[int] = 256
    many_rows: ClassVar[int] = 32
    fewest_steps: ClassVar[int] = 4
    parts: ClassVar[int] = 8

    def projects_at_once(self, sizes: Sizes, differentiated: bool) -> bool:
        """Return whether the projections are no larger than the inputs and fit into a cache.

        The alternative is to project each block by itself. That copies the block's part of the
        inputs, and the block's part of their gradient. In a run that is differentiated, projections
        much smaller than the inputs are therefore made at once even if they leave the cache.
        """
        if sizes.rows >= self.most_rows:
            return False  # patches of all pictures would be a large array
        if sizes.time * sizes.rows * sizes.projections <= self.most_numbers_projected:
            return sizes.projections <= sizes.inputs
        return differentiated and sizes.projections * self.much_narrower <= sizes.inputs

    def keep(self, rebuilding: int, one_block: bool) -> Keep:
        """Keep carries, which are fewer numbers, unless rebuilding is much of a block's work.

        Pre-activations pay only where the products are long. A product over some hundred numbers is
        about as fast in the loop as with all rows of a block. One block keeps both, because its
        temporaries are as many numbers anyway.
        """
        if one_block:
            return "all"
        return "preactivations" if rebuilding >= self.much_to_rebuild else "carries"

    def takes_one_block(self, sizes: Sizes) -> bool:
        """Return whether the caches hold all that one block needs. Nothing is then rebuilt.

        A cell without products has a width of 0. Its projections tell how much a block holds.
        """
        widest = max(sizes.width, sizes.projections)
        numbers = sizes.time * sizes.rows * widest
        return sizes.rows < self.most_rows and numbers <= self.most_numbers_in_one

    def steps_in_block(self, sizes: Sizes) -> int:
        """Return a number of steps for which a block's products, `[steps * rows, width]`, are fast.

        - They have enough rows to be fast, and stay in a cache.
        - A block is a small part of all time, because its temporaries take some thirty numbers per
          unit and step.
        - They have at least half as many rows as the weight, even if they leave the cache. With
          fewer, most of a block's work would be to add to the weight's gradient.
        - If one step has enough rows by itself, as with pictures, a block has one step.
        """
        rows, width = max(sizes.rows, 1), max(sizes.width, 1)
        if rows >= self.most_rows:
            return 1
        most = self.most_numbers // (rows * width)
        wanted = min(most, max(sizes.time // self.parts, self.fewest_rows // rows))
        return max(self.fewest_steps, wanted, sizes.stepping // 2 // rows)

    def steps_in_block_forward(self, sizes: Sizes) -> int:
        """Return the number of steps whose inputs and projections a cache holds.

        A small problem with many rows gets blocks of one step, if projecting is less work than
        stepping. Each step then projects its own input: to write and read the projections of many
        steps would take longer.
        """
        lesser = sizes.projecting < sizes.stepping and sizes.rows >= self.many_rows
        if lesser and self.takes_one_block(sizes):
            return 1
        widest = max(sizes.width, sizes.inputs, 1)
        return self.most_numbers_forward // (widest * max(sizes.rows, 1))


class GPU(Platform):
    """Derived from kernel counts of programs compiled for an H100 (`benchmarks/ahead`).

    A step with small products takes about as long as its kernels take to launch. These include the
    loop's own counter and the slices that it reads and writes. Eight steps in an iteration share
    some of them, and the compiler fuses across steps.

    Carries are kept. Pre-activations would take a kernel for each gate to write, and another loop
    to rebuild the carries.
    """

    unroll = 8
    fewest_parts: ClassVar[int] = 4
    parts: ClassVar[int] = 16
    some_steps: ClassVar[int] = 32
    most_steps: ClassVar[int] = 64
    most_numbers: ClassVar[int] = 2**24

    def steps_in_block(self, sizes: Sizes) -> int:
        """Return a small part of all time, because a block's temporaries add to what is kept.

        A block costs some thirty launches of its own. 32 steps outweigh them.
        """
        time = sizes.time
        steps = max(time // self.parts, min(time // self.fewest_parts, self.some_steps))
        return min(steps, self.steps_in_block_forward(sizes))

    def steps_in_block_forward(self, sizes: Sizes) -> int:
        """Return many steps. The projections of as many steps are in memory at once."""
        return min(self.most_steps, self.most_numbers // max(sizes.rows * sizes.width, 1))


class TPU(GPU):
    """Derived from the compiler's own estimate of cycles, for a v5e (`benchmarks/ahead`).

    The compiler gains nothing from unrolled loops.
    """

    unroll = 1
    most_numbers_in_block: ClassVar[int] = 2**22
    most_rows_in_block: ClassVar[int] = 2**14

    def steps_in_block(self, sizes: Sizes) -> int:
        """Return as many steps as leave a block's temporaries in the chip's own memory.

        There they are no part of what the program allocates. Blocks are as long as that permits,
        because each block costs cycles of its own. Rows are limited, too: a picture has many, and
        the convolution of a picture makes patches of them.
        """
        rows, width = max(sizes.rows, 1), max(sizes.width, 1)
        most = min(self.most_numbers_in_block // width, self.most_rows_in_block)
        return min(self.most_steps, most // rows)


PLATFORMS: dict[str, Platform] = {"cpu": CPU(), "gpu": GPU(), "tpu": TPU()}
"""The platforms by the names that `jax.default_backend()` returns."""


def platform_of(name: str | None) -> Platform:
    """Return the platform with this name; if it is None, the one that the process runs on.

    An unknown backend is treated as a GPU.
    """
    return PLATFORMS.get(name or jax.default_backend(), PLATFORMS["gpu"])


def _near_divisor(time: int, wanted: int) -> int:
    """Return the divisor of `time` nearest to `wanted`; `wanted` if none is within a factor of 2.

    A divisor leaves no shorter last block, which would be compiled by itself.
    """
    wanted = max(wanted, 1)
    if wanted >= time:
        return time
    near = [k for k in range(wanted // 2 + 1, 2 * wanted) if time % k == 0]
    return min(near, key=lambda k: max(k, wanted) / min(k, wanted), default=wanted)
