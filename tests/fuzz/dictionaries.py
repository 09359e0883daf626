"""Weights of other frameworks with a damage: they are refused by name, or read as they stand."""

import copy
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import GRU, LSTM, MGU, Bidirectional, Cell, Elman, Stack, convert
from tests.fuzz._refusals import unless_refused
from tests.support.conversions import FEATURES, params_like

HIDDEN = 5  # no linear layer of a VanillaRNN is as wide as that of an LSTM


class Format(NamedTuple):
    """One framework's weights."""

    source: str
    cells: tuple[Cell, ...]
    write: Callable[[Cell, Any], Any]  # a tree of dictionaries, or a list
    read: Callable[[Cell, Any], tuple[Cell, Any]]  # the cell tells what the weights do not
    named: str = "{}"  # what an array is called in messages


def two_layers(cell: Cell) -> Cell:
    return Stack([Bidirectional(cell), Bidirectional(cell)])


def plain_cells(**options: Any) -> tuple[Cell, ...]:
    return LSTM(HIDDEN, **options), GRU(HIDDEN, **options), Elman(HIDDEN, **options)


def of_flax(kind: str, *cells: Cell) -> Format:
    return Format(
        "from_flax",
        cells,
        lambda cell, params: convert.to_flax(cell, params, kind),
        lambda _, weights: convert.from_flax(weights, kind),
    )


def of_keras(cell: Cell) -> dict[str, Any]:
    return convert.to_keras(
        cell, jax.tree.map(lambda leaf: np.zeros(leaf.shape, "f"), params_like(cell))
    )[0]


def vector_of(cell: Cell, params: Any) -> dict[str, Any]:
    return {"flat": np.asarray(convert.to_cudnn(cell, params))}


FORMATS = (
    Format(
        "from_torch",
        (
            *plain_cells(),
            *plain_cells(bias=False),
            LSTM(HIDDEN, projection=2),
            *map(two_layers, plain_cells()),
            two_layers(LSTM(HIDDEN, projection=2)),
        ),
        convert.to_torch,
        lambda _, weights: convert.from_torch(weights),
    ),
    Format(
        "from_keras",
        (
            *plain_cells(),
            *plain_cells(bias=False),
            GRU(HIDDEN, reset_gate="before"),
            Bidirectional(LSTM(HIDDEN)),
            Stack([GRU(HIDDEN), Elman(HIDDEN)]),
        ),
        lambda cell, params: convert.to_keras(cell, params)[1],
        lambda cell, weights: convert.from_keras(of_keras(cell), weights),
        "weights[{}]",
    ),
    Format(
        "from_cudnn",
        (LSTM(HIDDEN), Bidirectional(LSTM(HIDDEN))),
        vector_of,
        lambda cell, weights: convert.from_cudnn(
            weights["flat"], FEATURES, HIDDEN, 1, isinstance(cell, Bidirectional)
        ),
    ),
    Format(
        "from_equinox",
        (*plain_cells()[:2], *plain_cells(bias=False)[:2]),
        convert.to_equinox,
        lambda _, weights: convert.from_equinox(weights),
    ),
    Format(
        "from_haiku",
        (LSTM(HIDDEN), GRU(HIDDEN, reset_gate="before"), Elman(HIDDEN, activation="relu")),
        convert.to_haiku,
        lambda _, weights: convert.from_haiku(weights),
    ),
    of_flax("linen.LSTMCell", LSTM(HIDDEN), Bidirectional(LSTM(HIDDEN))),
    of_flax("linen.GRUCell", GRU(HIDDEN)),
    of_flax("linen.SimpleCell", Elman(HIDDEN), Bidirectional(Elman(HIDDEN))),
    of_flax("linen.MGUCell", MGU(HIDDEN, form="flax")),
    of_flax("nnx.OptimizedLSTMCell", LSTM(HIDDEN)),
    of_flax("nnx.GRUCell", GRU(HIDDEN, bias=False)),
)
"""No framework is needed: what jaxrnn writes is what is damaged."""


# What may happen to an array

OTHER_VALUES: dict[str, Callable[[np.ndarray], Any]] = {
    "None": lambda array: None,
    "a string": lambda array: "weights",
    "a list": lambda array: array.tolist(),
    "a number": lambda array: 1.0,
    "a dictionary": lambda array: {"array": array},
    "a class": lambda array: np.float32,
    "a form": lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype),
    "float64": lambda array: array.astype("float64"),
    "int32": lambda array: array.astype("int32"),
    "bool": lambda array: array.astype("bool"),
    "complex64": lambda array: array.astype("complex64"),
    "object": lambda array: array.astype("object"),
    "text": lambda array: array.astype("str"),
    "eight bits": lambda array: array.astype(jnp.float8_e4m3fn),
}
OTHER_SHAPES: dict[str, Callable[[np.ndarray], Any]] = {
    "transposed": lambda array: array.T,
    "no rows": lambda array: array[:0],
    "no columns": lambda array: array[..., :0],
    "a row less": lambda array: array[1:],
    "a row more": lambda array: np.concatenate([array, array[:1]]),
    "a column less": lambda array: array[..., 1:],
    "a column more": lambda array: np.concatenate([array, array[..., :1]], axis=-1),
    "twice the rows": lambda array: np.concatenate([array, array]),
    "half the columns": lambda array: array[..., : array.shape[-1] // 2],
    "an axis more": lambda array: array[None],
    "one axis": lambda array: array.reshape(-1),
    "no axis": lambda array: array.reshape(-1)[0],
    "endless": lambda array: np.broadcast_to(np.float32(1), (2**42, *array.shape)),
    "swapped bytes": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "float16": lambda array: array.astype("float16"),
    "a view": lambda array: array[::-1],
}
NAMES: tuple[Any, ...] = (
    "weight_ih_l1",
    "weight_hr_l0",
    "bias",
    "kernel",
    "w_h",
    "",
    "a/b",
    None,
    7,
)


def case(random: random.Random) -> str:
    form = random.choice(FORMATS)
    cell = random.choice(form.cells)
    rng = np.random.default_rng(random.randrange(2**32))
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype("f"), params_like(cell))
    weights = to_numpy(form.write(cell, params))
    damaged, what, names = damage(random, form, weights)
    what = f"{form.source} of {cell}: {what}"
    names = names if any(flat(damaged)) else []
    read = unless_refused(lambda: form.read(cell, damaged), form.source, names, what)
    if read is None:
        return "refused"
    if form.source == "from_keras" and any(
        a.shape in ((6 * HIDDEN,), (8 * HIDDEN,)) for a in damaged
    ):
        return "read as a CuDNN layer's"
    again = to_numpy(form.write(*read))
    wanted, got = (flat(with_sums(form, tree)) for tree in (damaged, again))
    if form.source == "from_haiku":  # which looks at one module, whatever it is called
        wanted, got = ({within(k): array for k, array in t.items()} for t in (wanted, got))
    assert wanted.keys() == got.keys(), f"{what}: {wanted.keys()} was read as {got.keys()}"
    for name, array in wanted.items():
        assert array.shape == got[name].shape, f"{what}: {name} was read as {got[name].shape}"
        rounding = 1e-3 if array.dtype == np.float16 else 1e-6  # sums, and Haiku's forget bias
        np.testing.assert_allclose(
            np.float64(got[name]), np.float64(array), 1e-5, rounding, err_msg=what
        )
    return "read"


def damage(random: random.Random, form: Format, weights: Any) -> tuple[Any, str, list[str]]:
    """Weights with one damage; in words; and names, one of which a refusal must have."""
    damaged = copy.deepcopy(weights)
    holders = [(path, holder) for path, holder in holders_of(damaged) if holder]
    path, holder = random.choice(holders)
    key = random.choice([*holder] if isinstance(holder, dict) else range(len(holder)))
    every = [form.named.format(path_of(p, k)) for p, h in holders for k in keys_of(h)]
    name, array = form.named.format(path_of(path, key)), holder[key]
    kind = random.choice(["value"] * 3 + ["shape"] * 3 + ["drop", "rename", "add", "swap"])
    if kind in ("value", "shape") and isinstance(array, np.ndarray):
        changes = OTHER_VALUES if kind == "value" else OTHER_SHAPES
        change = random.choice([*changes])
        holder[key] = changes[change](array)
        return damaged, f"{name} is {change}", [name] if kind == "value" else every
    if kind == "swap":
        other = random.choice(keys_of(holder))
        holder[key], holder[other] = holder[other], holder[key]
        return damaged, f"{name} and {other} are swapped", every
    if isinstance(holder, list):
        if kind == "add":
            holder.insert(key, np.ones((HIDDEN, HIDDEN), "f"))
            return damaged, f"an array before {name}", [*every, form.named.format(len(holder) - 1)]
        del holder[key]
        return damaged, f"without {name}", every
    if form.source == "from_cudnn":
        return damaged, "nothing", []
    new = random.choice(NAMES)
    if kind == "add":
        holder[new] = np.ones((HIDDEN, HIDDEN), "f")
        return damaged, f"{new!r} is added", [*every, str(new)]
    del holder[key]
    if kind == "rename":
        holder[new] = array
    return (
        damaged,
        f"{name} is called {new!r}" if kind == "rename" else f"no {name}",
        [*every, str(new)],
    )


def path_of(path: str, key: Any) -> str:
    return f"{path}/{key}" if path else str(key)


def keys_of(holder: Any) -> list[Any]:
    return [*holder] if isinstance(holder, dict) else [*range(len(holder))]


def holders_of(tree: Any, path: str = "") -> list[tuple[str, Any]]:
    """The dictionaries and lists in a tree, by their path."""
    found = [(path, tree)]
    for key in keys_of(tree):
        if isinstance(tree[key], dict):
            found += holders_of(tree[key], path_of(path, key))
    return found


def to_numpy(tree: Any) -> Any:
    """The tree with arrays of NumPy, in dictionaries and lists of its own."""
    if isinstance(tree, dict):
        return {key: to_numpy(value) for key, value in tree.items()}
    return [to_numpy(value) for value in tree] if isinstance(tree, list) else np.asarray(tree)


def flat(tree: Any) -> dict[str, np.ndarray]:
    return {
        path_of(path, key): holder[key]
        for path, holder in holders_of(tree)
        for key in keys_of(holder)
        if isinstance(holder[key], np.ndarray)
    }


def within(path: str) -> str:
    """The name of an array within its module of Haiku, such as `linear/w` or `w_h`."""
    *_, layer, leaf = f"/{path}".split("/")
    return f"{layer}/{leaf}" if layer.startswith("linear") else leaf


def with_sums(form: Format, tree: Any) -> Any:
    """The tree with those biases added that only count as a sum, as jaxrnn writes them."""
    tree = copy.deepcopy(tree)
    if form.source == "from_cudnn":  # all biases stand behind the matrices
        rows = 4 * HIDDEN
        ways = 1 + (tree["flat"].size > rows * (FEATURES + HIDDEN + 2))
        biases = tree["flat"][-2 * rows * ways :].reshape(ways, 2, rows)
        biases[:, 0] += biases[:, 1]
        biases[:, 1] = 0
    if form.source == "from_keras":
        for bias in (array for array in tree if array.shape == (2, 3 * HIDDEN)):
            bias[0, :-HIDDEN] += bias[1, :-HIDDEN]  # what is before a GRU's candidate
            bias[1, :-HIDDEN] = 0
    if form.source == "from_torch":
        for name in [name for name in tree if name.startswith("bias_hh")]:
            rows, state = tree[name.replace("bias", "weight")].shape
            # what is before a GRU's candidate
            own = rows - rows // 3 if rows == 3 * state else rows
            tree[name.replace("hh", "ih")][:own] += tree[name][:own]
            tree[name][:own] = 0
    if form.source == "from_haiku":
        tree = {key: holder for key, holder in tree.items() if isinstance(holder, dict)}
        for path, holder in holders_of(tree):
            if path.endswith("linear_1") and "b" in holder:  # which may be left out
                tree[path.replace("linear_1", "linear")]["b"] += holder.pop("b")
    return tree
