"""What a plan chooses: the steps in a block, what is kept, and when inputs are projected."""

from operator import attrgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from jaxrnn.core.walk import Walk
from jaxrnn.methods.bptt import plan
from jaxrnn.methods.bptt.platforms import CPU, GPU, TPU, Platform, Sizes
from tests.support.helpers import assert_close
from tests.support.user_cells import Leaky, Ring


def sizes(time: int, rows: int, width: int, inputs: int = 8, operand: int = 8) -> Sizes:
    return Sizes(time, rows, width, inputs, width, projecting=inputs, stepping=operand)


def planned(cell: Any, platform: Platform, time: int = 64, features: int = 6) -> plan.Plan:
    params, xs = cell.init(jax.random.key(0), features), jnp.zeros((time, 4, features))
    carry = cell.initial_carry(params, xs.shape[1:])
    return plan.make_plan(cell, params, xs, carry, Walk().flags(), Walk(), platform)


def test_what_is_kept():
    """Carries, or pre-activations where it is much work to rebuild them: two products, or one if
    the inputs are projected at once.
    """

    def kept(cell: Any, features: int, platform: Platform) -> str:
        return planned(cell, platform, 1024, features).keep

    for cell in (jaxrnn.Elman, jaxrnn.LSTM, jaxrnn.GRU):
        assert kept(cell(384), 96, CPU()) == "preactivations"
        assert kept(cell(384), 96, GPU()) == "carries"
        assert kept(cell(96), 96, CPU()) == "carries"
        assert kept(cell(96), 400, CPU()) == "carries"


def test_narrow_projections_are_made_at_once():
    """Of all steps, where they are no wider than the inputs, and a cache holds them, or are
    much narrower and the run is differentiated; on a CPU, whose blocks copy inputs.
    """
    for cell, width in ((jaxrnn.LSTM(8), 32), (jaxrnn.GRU(8), 24)):
        for pick in (attrgetter("projects_at_once"), attrgetter("projects_at_once_forward")):
            assert pick(planned(cell, CPU(), features=width))
            assert not pick(planned(cell, CPU(), features=width - 1))
            assert not pick(planned(cell, GPU(), features=width))
    fit, beyond = 2**11, 2**12
    for inputs, time, differentiated, wanted in (
        (64, fit, True, True),
        (64, fit, False, True),
        (255, beyond, True, False),
        (256, beyond, True, True),
        (256, beyond, False, False),
    ):
        found = sizes(time, rows=16, width=64, inputs=inputs)
        assert CPU().projects_at_once(found, differentiated) is wanted


def test_cells_without_products():
    """Their projections bound a block, as there are no pre-activations. Carries are kept, for there
    is no product that rebuilds them.
    """
    cell = Leaky(hidden=8, out=1000)
    short, long = planned(cell, CPU(), time=64), planned(cell, CPU(), time=2**14)
    assert short.block == 64
    assert long.block <= 2**14 // 8
    assert long.keep == "carries"


def test_numbers_of_a_row():
    """Whatever its axes, for a convolution has several; a complex number is two real ones."""
    image = jax.ShapeDtypeStruct((5, 6, 7), jnp.float32)
    wave = jax.ShapeDtypeStruct((8,), jnp.complex64)
    assert plan.numbers((image, wave)) == 5 * 6 * 7 + 2 * 8

    cell = Ring(4)
    params = cell.init(jax.random.key(0), 2)
    xs = jnp.zeros((6, 3, 10, 2))
    carry = jnp.zeros((3, 10, 4))
    made = plan.make_plan(cell, params, xs, carry, Walk().flags(), Walk(), CPU())
    assert [product.shape for product in made.seam.products] == [(3, 10, 4)]


def test_blocks():
    """All of time if a cache holds it, else tall enough, small enough for a cache, and a small part
    of all time; about √T where carries are kept at borders alone.
    """
    block = CPU().block
    assert block(sizes(128, rows=32, width=512), checkpointed=False) == 16
    assert block(sizes(256, rows=1, width=1024), checkpointed=False) == 256
    assert block(sizes(100_000, rows=32, width=4096), checkpointed=False) == 4
    assert block(sizes(16_384, rows=8, width=512), checkpointed=True) == 128
    assert block(sizes(256, rows=1, width=1024), checkpointed=True) == 256
    assert block(sizes(3, rows=1, width=4), checkpointed=False) == 3
    assert block(sizes(1009, rows=0, width=0), checkpointed=False) > 0


def test_blocks_where_nobody_differentiates():
    """As many steps as a cache holds inputs and projections of; one, of a small problem of many
    rows whose inputs are narrow.
    """
    block = CPU().block_forward
    assert block(sizes(256, rows=128, width=256)) == 32
    assert block(sizes(256, rows=128, width=256, inputs=512)) == 16
    assert block(sizes(16, rows=128, width=128, operand=9)) == 1
    for other in (
        sizes(16, rows=128, width=128, operand=8),
        sizes(16, rows=31, width=128, operand=9),
        sizes(17, rows=128, width=128, operand=9),
    ):
        assert block(other) == other.time


def test_blocks_of_each_platform():
    """A CPU's fit a cache; a GPU's are as long as 64 steps, but a part of all time; a TPU's as long
    as its own memory allows.
    """
    for platform, expected in ((GPU(), [16, 32, 64]), (TPU(), [64, 64, 64])):
        lengths = [
            platform.block(sizes(time, rows=64, width=1024), checkpointed=False)
            for time in (64, 128, 2048)
        ]
        assert lengths == expected
        assert platform.block(sizes(16, rows=2**22, width=8), checkpointed=False) == 1
        assert platform.block(sizes(10_000, rows=64, width=1024), checkpointed=True) == 100
    assert TPU().block(sizes(64, rows=256, width=1536), checkpointed=False) == 8
    assert TPU().block(sizes(32, rows=2048, width=64), checkpointed=False) == 8
    assert CPU().block(sizes(128, rows=64, width=1024), checkpointed=False) == 4


def test_vmap_over_params_where_the_derivative_has_other_blocks() -> None:
    """A call takes blocks of one step, its derivative a single block; under `vmap`, JAX takes the
    batch axis of a `jax.custom_jvp`'s results from one of the two.
    """
    cell = jaxrnn.Elman(4)
    params = jax.vmap(lambda key: cell.init(key, 1))(jax.random.split(jax.random.key(0), 3))
    xs = np.random.default_rng(0).normal(size=(5, 40, 1)).astype(np.float32)

    def gradient(method: Any) -> Any:
        each = jax.vmap(lambda p: jnp.sum(jaxrnn.scan(cell, p, xs, method=method)[1][-1] ** 2))
        return jax.jit(jax.grad(lambda params: jnp.sum(each(params))))(params)

    assert_close(gradient("bptt"), gradient("autodiff"), 1e-5)
