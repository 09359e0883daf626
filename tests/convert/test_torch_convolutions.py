"""Convolutional LSTMs as people write them for torch, read."""

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import ConvLSTM
from jaxrnn.convert import from_torch
from tests.support.conversions import FEATURES, HIDDEN, each_precision, random_inputs
from tests.support.helpers import assert_close, assert_equal

torch = pytest.importorskip("torch", reason="needs torch: `make oracle-test` installs it")

SPACE = {1: (7,), 2: (4, 5), 3: (3, 2, 4)}
KERNEL = {1: (5,), 2: (3, 5), 3: (3, 1, 3)}


def convolution(channels: int, rows: int, kernel: tuple[int, ...], bias: bool) -> Any:
    """One that keeps the size of a picture."""
    make = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[len(kernel) - 1]
    return make(channels, rows, kernel, padding=tuple(k // 2 for k in kernel), bias=bias)


class Gates(torch.nn.Module):
    """What happens to the rows, which are split in this order."""

    gates: str

    def after(self, rows: Any, c: Any) -> tuple[Any, Any]:
        z = dict(zip(self.gates, torch.chunk(rows, 4, dim=1), strict=True))
        i, f, o = (torch.sigmoid(z[gate]) for gate in "ifo")
        c = f * c + i * torch.tanh(z["g"])
        return o * torch.tanh(c), c


class Joined(Gates):
    """One convolution over the concatenation."""

    def __init__(
        self, features: int, hidden: int, kernel: tuple[int, ...], gates: str, bias: bool = True
    ):
        super().__init__()
        self.gates = gates
        self.conv = convolution(features + hidden, 4 * hidden, kernel, bias)

    def forward(self, x: Any, h: Any, c: Any) -> tuple[Any, Any]:
        return self.after(self.conv(torch.cat([x, h], dim=1)), c)


class Apart(Gates):
    """One of the input, and one of the state, each in a `Sequential` before its normalisation, and
    two that nothing uses.
    """

    def __init__(
        self, kernel: tuple[int, ...], gates: str, bias: tuple[bool, bool], unused: bool = False
    ):
        super().__init__()
        self.gates = gates
        self.conv_x = torch.nn.Sequential(convolution(FEATURES, 4 * HIDDEN, kernel, bias[0]))
        self.conv_h = torch.nn.Sequential(convolution(HIDDEN, 4 * HIDDEN, kernel, bias[1]))
        if unused:
            self.conv_last = convolution(2 * HIDDEN, HIDDEN, (1,) * len(kernel), bias=False)

    def forward(self, x: Any, h: Any, c: Any) -> tuple[Any, Any]:
        return self.after(self.conv_x(x) + self.conv_h(h), c)


def run_torch(module: Any, xs: Any) -> tuple[Any, Any]:
    """Its final states and its outputs, with the channels last."""
    xs = torch.tensor(np.moveaxis(xs, -1, 2))
    hidden = module.state_dict()["conv.weight" if hasattr(module, "conv") else "conv_h.0.weight"]
    h = c = torch.zeros(xs.shape[1], len(hidden) // 4, *xs.shape[3:], dtype=xs.dtype)
    ys = []
    with torch.no_grad():
        for x in xs:
            h, c = module(x, h, c)
            ys.append(h)
    h, c, *ys = (np.moveaxis(a.numpy(), 1, -1) for a in (h, c, *ys))
    return (h, c), np.stack(ys)


@each_precision
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("rank", SPACE)
def test_one_convolution(rank, bias, dtype, tolerance):
    torch.manual_seed(0)
    theirs = Joined(FEATURES, HIDDEN, KERNEL[rank], "ifog", bias).to(getattr(torch, dtype))
    cell, params = from_torch(theirs.state_dict(), convolutions="conv", gates="ifog")
    assert cell == ConvLSTM(HIDDEN, KERNEL[rank], rank=rank, bias=bias)
    xs = random_inputs(dtype, *SPACE[rank])
    assert_close(jaxrnn.scan(cell, params, xs), run_torch(theirs, xs), tolerance)


@each_precision
@pytest.mark.parametrize("bias", [*itertools.product([True, False], repeat=2)], ids=str)
def test_one_each(bias, dtype, tolerance):
    torch.manual_seed(0)
    theirs = Apart((3, 5), "ifgo", bias).to(getattr(torch, dtype))
    names = ("conv_x.0", "conv_h.0")
    cell, params = from_torch(theirs.state_dict(), convolutions=names, gates="ifgo")
    assert cell == ConvLSTM(HIDDEN, (3, 5), bias=any(bias))
    xs = random_inputs(dtype, 4, 5)
    assert_close(jaxrnn.scan(cell, params, xs), run_torch(theirs, xs), tolerance)


def test_any_order_of_gates():
    torch.manual_seed(0)
    xs = random_inputs("float32", 7)
    for gates in map("".join, itertools.permutations("ifgo")):
        theirs = Joined(FEATURES, HIDDEN, (3,), gates)
        cell, params = from_torch(theirs.state_dict(), convolutions="conv", gates=gates)
        assert_close(jaxrnn.scan(cell, params, xs), run_torch(theirs, xs), 1e-5)


def test_a_list_of_layers():
    """Each is read by its prefix."""
    torch.manual_seed(0)
    theirs = torch.nn.Module()
    sizes = [FEATURES, HIDDEN, 2]
    theirs.cell_list = torch.nn.ModuleList(
        [Joined(*pair, (3, 3), "ifog") for pair in itertools.pairwise(sizes)]
    )
    layers = [
        from_torch(theirs.state_dict(), f"cell_list.{k}.", convolutions="conv", gates="ifog")
        for k in range(2)
    ]
    cells, params = zip(*layers, strict=True)
    xs = random_inputs("float32", 4, 5)
    below, ys = run_torch(theirs.cell_list[0], xs)
    above, ys = run_torch(theirs.cell_list[1], ys)
    carry, ours = jaxrnn.scan(jaxrnn.Stack(cells), params, xs)
    assert_close((carry, ours), ((below, above), ys), 1e-5)


def test_bfloat16_tensors_keep_their_bits():
    module = Joined(FEATURES, HIDDEN, (3, 3), "ifgo").to(torch.bfloat16)
    _, params = from_torch(module.state_dict(), convolutions="conv", gates="ifgo")
    weight = jnp.moveaxis(jnp.concatenate([params.w_x, params.w_h], axis=-2), (-1, -2), (0, 1))
    theirs = [jnp.from_dlpack(tensor.contiguous()) for tensor in module.state_dict().values()]
    assert_equal([weight, params.b], theirs)


def test_more_than_the_named_convolutions():
    """A normalisation among them would change the result, so nothing is left out in silence."""
    tensors = Apart((3, 3), "ifgo", (False, False), unused=True).state_dict()
    names = ("conv_x.0", "conv_h.0")
    with pytest.raises(ValueError, match=r"^from_torch: unexpected \['conv_last\.weight'\]"):
        from_torch(tensors, convolutions=names, gates="ifgo")
    used = {name: tensor for name, tensor in tensors.items() if "last" not in name}
    assert from_torch(used, convolutions=names, gates="ifgo")[0] == ConvLSTM(5, 3, bias=False)


def shaped(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {f"{name}.weight": np.ones(shape, "f") for name, shape in shapes.items()}


ONE, TWO = {"convolutions": "conv", "gates": "ifog"}, {"convolutions": ("x", "h"), "gates": "ifgo"}
MISTAKES: dict[str, Any] = {
    "even kernel": (
        shaped(conv=(20, 8, 3, 2)),
        ONE,
        r"the kernel is \(3, 2\), expected odd sizes: padding=k // 2 makes",
    ),
    "no gates": (shaped(conv=(20, 8, 3)), {"convolutions": "conv"}, "gates is None, expected the "),
    "gates": (
        shaped(conv=(20, 8, 3)),
        ONE | {"gates": "ifco"},
        "gates is 'ifco', expected the",
    ),
    "no names": (
        shaped(conv=(20, 8, 3)),
        {"gates": "ifog"},
        r"convolutions are \[\], expected one",
    ),
    "names": (
        shaped(conv=(20, 8, 3)),
        ONE | {"convolutions": "abc"},
        "abc.weight is missing",
    ),
    "three names": (
        shaped(conv=(20, 8, 3)),
        ONE | {"convolutions": [*"abc"]},
        r"convolutions are \['a', 'b', 'c'\], expected one name or two",
    ),
    "linear": (
        shaped(conv=(20, 8)),
        ONE,
        r"conv\.weight has shape \(20, 8\), expected \[4 \* hidden, in \+ hidden, \*kernel\], of 3",
    ),
    "no input": (shaped(conv=(20, 5, 3)), ONE, r"conv\.weight has shape \(20, 5, 3\), expected \["),
    "rows": (shaped(conv=(18, 8, 3)), ONE, r"conv\.weight has shape \(18, 8, 3\), expected \[4"),
    "other state": (
        shaped(x=(20, 3, 3), h=(20, 4, 3)),
        TWO,
        r"h\.weight has shape \(20, 4, 3\), expected \(20, 5, 3\)",
    ),
    "other kernel": (
        shaped(x=(20, 3, 3), h=(20, 5, 5)),
        TWO,
        r"h\.weight has shape \(20, 5, 5\), expected \(20, 5, 3\)",
    ),
    "bias": (
        shaped(conv=(20, 8, 3)) | {"conv.bias": np.ones(5, "f")},
        ONE,
        r"conv\.bias has shape \(5,\), expected \(20,\)",
    ),
    "prefix": (
        {f"cell_list.0.{name}": array for name, array in shaped(conv=(20, 8, 3)).items()},
        ONE,
        r"conv\.weight is missing; .*; it is there with prefix='cell_list\.0\.'$",
    ),
    "nonlinearity": (
        shaped(conv=(20, 8, 3)),
        ONE | {"nonlinearity": "relu"},
        "nonlinearity is 'relu', which only an",
    ),
}


@pytest.mark.parametrize(("tensors", "options", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(tensors, options, message):
    with pytest.raises(ValueError, match=f"^from_torch: {message}"):
        from_torch(tensors, **options)
