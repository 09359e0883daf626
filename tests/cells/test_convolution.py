"""Convolutions as products of cells: their derivative, what is in the loop, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.cells._convolution import Convolution
from jaxrnn.methods import BPTT
from tests.support import pictures
from tests.support.helpers import assert_close
from tests.support.jaxprs import equations


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(
    ("space", "kernel", "strides", "dilation"),
    [
        ((7,), (3,), 2, 1),
        ((5, 6), (2, 3), 1, 2),
        ((4, 3, 5), (2, 2, 2), 1, 1),
        ((8, 5), (3, 2), 2, 1),
    ],
)
def test_products_and_derivatives(x64, padding, space, kernel, strides, dilation):
    """Against loops over positions, and finite differences in both modes, twice."""
    rng, rank = np.random.default_rng(0), len(space)
    x, w = rng.normal(size=(2, 1, *space, 3)), rng.normal(size=(*kernel, 3, 2))
    of = Convolution((strides,) * rank, (dilation,) * rank, padding)
    options = {"strides": strides, "dilation": dilation, "padding": padding}
    wanted = np.stack([pictures.convolve(row[0], w, **options)[None] for row in x])
    assert of.space(space, kernel) == wanted.shape[2:-1]
    assert_close(jax.jit(of)(x, w), wanted, 1e-12)

    @jax.jit
    def bilinear(x, w):
        return jnp.sum(jnp.sin(of(x, w)))

    tangents = rng.normal(size=x.shape), rng.normal(size=w.shape)
    step = 1e-6
    ahead, behind = (bilinear(x + s * tangents[0], w + s * tangents[1]) for s in (step, -step))
    _, slope = jax.jvp(bilinear, (x, w), tangents)
    gradient = jax.grad(bilinear, (0, 1))(x, w)
    assert_close(slope, (ahead - behind) / (2 * step), 1e-7)
    assert_close(sum(map(np.vdot, gradient, tangents)), slope, 1e-12)


def convolutions(jaxpr):
    """The sizes of kernels, by the number of loops that each convolution stands in."""
    return [
        (depth, equation.invars[1].aval.shape)
        for depth, equation in equations(jaxpr)
        if equation.primitive.name == "conv_general_dilated"
    ]


@pytest.mark.parametrize("method", ["autodiff", BPTT(2, keep="preactivations")], ids=str)
def test_no_kernel_as_large_as_the_picture(method):
    """XLA's derivative by a weight would be one."""
    cell = jaxrnn.ConvLSTM(2, 3)
    params = cell.init(jax.random.key(0), 1)
    xs = jnp.ones((4, 2, 8, 8, 1))
    loss = lambda p, xs: jnp.sum(jaxrnn.scan(cell, p, xs, method=method)[1])  # noqa: E731
    found = convolutions(jax.make_jaxpr(jax.grad(loss, (0, 1)))(params, xs).jaxpr)
    assert found
    assert all(shape[:2] == (3, 3) for _, shape in found)
    if method != "autodiff":  # the state's, forwards and back
        assert len([depth for depth, _ in found if depth == 2]) == 2


def test_a_picture_is_a_block():
    """Its products are tall by themselves."""
    cell = jaxrnn.ConvGRU(4, 3)
    params = cell.init(jax.random.key(0), 1)

    def of(method):
        return temporaries(cell, params, jnp.ones((12, 4, 16, 16, 1)), method)

    assert of("bptt") <= 0.35 * of("autodiff")


def test_inputs_are_not_copied():
    """A block of one step reads them where they are."""
    cell, xs = jaxrnn.ConvGRU(1, 3), jnp.ones((100, 1, 32, 32, 16))
    assert temporaries(cell, cell.init(jax.random.key(0), 16), xs, "bptt") < xs.nbytes / 2


def temporaries(cell, params, xs, method):
    loss = lambda p, xs: jnp.sum(jaxrnn.scan(cell, p, xs, method=method)[1] ** 2)  # noqa: E731
    analysis = jax.jit(jax.grad(loss)).lower(params, xs).compile().memory_analysis()
    assert analysis is not None
    return analysis.temp_size_in_bytes


@pytest.mark.parametrize(("kernel", "dilation"), [((3, 2), 1), (2, 3)])
def test_a_learned_carry_without_padding(kernel, dilation):
    """All positions share it. No image smaller than the kernel has a carry."""
    inner = jaxrnn.ConvLSTM(2, kernel, dilation=dilation, padding="valid")
    cell = jaxrnn.LearnedCarry(inner)
    params = cell.init(jax.random.key(0), 3)
    assert params.start.h.shape == (1, 1, 2)
    start = jax.tree.map(lambda own: np.arange(2.0).reshape(own.shape), params.start)
    carry = cell.initial_carry(params._replace(start=start), (4, 5, 6, 3))
    own = inner.initial_carry(params.inner, (4, 5, 6, 3))
    assert carry.h.shape == own.h.shape
    assert np.all(carry.c == np.arange(2.0))


def test_parts_of_a_carry_without_padding():
    """They are known without an image that the kernel fits in."""
    cell = jaxrnn.ConvLSTM(2, 3, padding="valid")
    assert jaxrnn.Zoneout(cell, h=0.1, c=0.1).noisy
    assert jaxrnn.StateNoise(cell, 0.1).noisy


def test_what_does_not_fit_is_refused():
    for make, message in (
        (lambda: jaxrnn.ConvLSTM(4, 0), "ConvLSTM: kernel_size is 0, expected a positive integer"),
        (
            lambda: jaxrnn.ConvLSTM(4, (3, 3, 3)),
            r"kernel_size is .*, expected a single size, or one for each of rank=2",
        ),
        (lambda: jaxrnn.ConvGRU(4, 3, rank=4), r"ConvGRU: rank is 4, expected one of \[1, 2, 3\]"),
        (lambda: jaxrnn.ConvGRU(4, 3, padding="full"), "padding is 'full', expected one of"),  # type: ignore[arg-type]
        (
            lambda: jaxrnn.ConvGRU(4, 3, strides=2, dilation=3),
            "ConvGRU: strides is 2 and dilation is 3, but they cannot both be above 1",
        ),
        (lambda: jaxrnn.ConvLSTM(4, 3, projection=2), "projection is 2, expected None"),
        (
            lambda: jaxrnn.ConvLSTM(4, 3, peepholes=True),  # type: ignore[arg-type]
            "peepholes is a bool, expected 2 sizes, the spatial size of",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    cell = jaxrnn.ConvLSTM(4, 5, padding="valid")
    params = cell.init(jax.random.key(0), 2)
    with pytest.raises(ValueError, match=r"size \(4, 8\), expected at least .* kernel, \(5, 5\)"):
        jaxrnn.scan(cell, params, jnp.ones((3, 2, 4, 8, 2)))
    with pytest.raises(ValueError, match="ConvLSTM"):
        jaxrnn.scan(cell, params, jnp.ones((3, 2, 2)))
    with pytest.raises(ValueError, match="ConvLSTM"):
        jaxrnn.scan(cell, params, jnp.ones((3, 2, 8, 8, 3)))
