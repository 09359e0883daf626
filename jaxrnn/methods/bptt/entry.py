"""The methods `BPTT` and `Checkpointed`, which run the engine."""

import dataclasses
import warnings
from abc import abstractmethod
from functools import partial
from typing import Literal

import jax
from jax import export, lax

from jaxrnn.core import check as _check
from jaxrnn.core.cell import Carry, Cell, Params
from jaxrnn.core.trees import Tree
from jaxrnn.core.walk import Walk
from jaxrnn.methods.autodiff import Autodiff
from jaxrnn.methods.bptt.plan import Plan, make_plan
from jaxrnn.methods.bptt.platforms import PLATFORMS, Keep, platform_of
from jaxrnn.methods.bptt.rule import bptt
from jaxrnn.methods.bptt.seam import LawBrokenError
from jaxrnn.methods.method import Method


@dataclasses.dataclass(frozen=True)
class _InBlocks(Method):
    """What the two methods share.

    They fall back to JAX's own derivative where the engine cannot run: time is a symbol
    (`jax.export`), there is no step, or the step breaks the law of `affine`. The last case warns.
    """

    block: int | None = None
    platform: Literal["cpu", "gpu", "tpu", "any"] | None = dataclasses.field(
        default=None, kw_only=True
    )

    def __post_init__(self) -> None:
        _check.check_choice(self, "platform", self.platform, (None, *PLATFORMS, "any"))
        if self.block is not None:
            _check.check_fields(self, _check.check_size, "block")

    @abstractmethod
    def _keeps(self) -> Keep | None:
        """Return what the forward pass keeps; None if the plan chooses."""

    def run(
        self, cell: Cell, params: Params, xs: Tree, carry: Carry, walk: Walk
    ) -> tuple[Carry, Tree]:
        time = jax.tree.leaves(xs)[0].shape[0]
        if export.is_symbolic_dim(time) or time == 0:
            return Autodiff().run(cell, params, xs, carry, walk)
        flags = walk.flags()

        def planned_for(name: str | None) -> Plan:
            options = (platform_of(name), self.block, self._keeps())
            return make_plan(cell, params, xs, carry, flags, walk, *options)

        try:
            if self.platform == "any":
                # JAX chooses when it lowers the program
                cpu, gpu, tpu = (partial(bptt, planned_for(name)) for name in ("cpu", "gpu", "tpu"))
                return lax.platform_dependent(
                    params, xs, carry, flags, cpu=cpu, tpu=tpu, default=gpu
                )
            return bptt(planned_for(self.platform), params, xs, carry, flags)
        except LawBrokenError as broken:
            warnings.warn(
                f"{_check.name_of(cell)}.step: {broken}; scan uses JAX's own derivative for it, "
                "which is slower and needs more memory. jaxrnn.Cell states the law; "
                'method="autodiff" asks for this without a warning',
                stacklevel=2,
            )
            return Autodiff().run(cell, params, xs, carry, walk)


@dataclasses.dataclass(frozen=True)
class BPTT(_InBlocks):
    """Back-propagation through time in blocks, the default.

    The forward pass keeps the carry after each step, its pre-activations, or both. The backward
    pass takes one block of time after the other, from the last to the first. It rebuilds with large
    products what was not kept, walks back through the block, and computes what the block adds to
    each weight's gradient as one large product. See `jaxrnn.methods.bptt`.

    Args:
        block: steps in a block; chosen from the sizes and the platform if None.
        keep: `"carries"`, from which large products rebuild the pre-activations of a block, or
            `"preactivations"`, which save these products. Chosen from the sizes and the platform if
            None; on a CPU, where one block holds all of time, both are then kept.
        platform: the platform that the program is planned for; if None, the one that the process
            runs on. With `"any"`, the program holds a plan for each platform, and the compiler
            takes one: for `jax.export` to several platforms, or to another one. Tracing then takes
            three times as long.
        kernel: with `"pallas"`, the loop over time is one kernel for NVIDIA GPUs that holds the
            recurrent weight on the chip. It runs `Elman`, `LSTM` and `GRU` whose weight fits there,
            takes neither `block` nor `keep`, and has first derivatives in reverse mode alone. It
            was compiled ahead of time and is interpreted in tests, but was never timed.

    Raises:
        ValueError: `block` is not positive; `keep`, `kernel` or `platform` is unknown; or `kernel`
            comes with `block`, `keep`, or a platform that is neither "cpu" nor "gpu". A driver
            raises it if the kernel cannot run the cell.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell, xs = jaxrnn.GRU(4), jnp.ones((7, 2, 3))
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> method = jaxrnn.methods.BPTT(block=4, keep="carries")
    >>> jaxrnn.scan(cell, params, xs, method=method)[1].shape
    (7, 2, 4)
    """

    keep: Literal["carries", "preactivations"] | None = None
    kernel: Literal["pallas"] | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.check_choice(self, "kernel", self.kernel, (None, "pallas"))
        _check.check_choice(self, "keep", self.keep, (None, "carries", "preactivations"))
        if self.kernel is not None:
            for name, allowed in (("block", ()), ("keep", ()), ("platform", ("cpu", "gpu"))):
                if (value := getattr(self, name)) not in (None, *allowed):
                    raise ValueError(
                        f'BPTT: {name} is {value!r}, but kernel="pallas" has no blocks and is for '
                        f"one kind of device, a GPU; leave out {name} or kernel"
                    )

    def run(
        self, cell: Cell, params: Params, xs: Tree, carry: Carry, walk: Walk
    ) -> tuple[Carry, Tree]:
        first = jax.tree.leaves(xs)[0]
        if self.kernel is None or 0 in first.shape:  # a kernel needs a step and a row
            return super().run(cell, params, xs, carry, walk)
        from jaxrnn.methods.bptt import kernel  # here, because Pallas takes long to import

        interpret = (self.platform or jax.default_backend()) != "gpu"
        return kernel.run(cell, params, xs, carry, walk, interpret)

    def _keeps(self) -> Keep | None:
        return self.keep


@dataclasses.dataclass(frozen=True)
class Checkpointed(_InBlocks):
    """Back-propagation through time that keeps only the carries between blocks.

    It is for long sequences. With blocks of √T steps it keeps O(√T) carries, and its gradient takes
    every step twice (Chen et al. 2016).

    Args:
        block: steps in a block; if None, about √T, or more where the platform prefers longer
            blocks.
        platform: as in `BPTT`.

    Raises:
        ValueError: `block` is not positive, or `platform` is unknown.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> cell, xs = jaxrnn.GRU(4), jnp.ones((7, 2, 3))
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> jaxrnn.scan(cell, params, xs, method="checkpointed")[1].shape
    (7, 2, 4)
    """

    def _keeps(self) -> Keep:
        return "nothing"
