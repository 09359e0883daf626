"""Convert carries from and to the states of layers of other frameworks.

Every framework keeps `h`, or `h` and `c`, for each layer and direction. They differ in how these
are grouped into arrays. There may be any number of batch axes, and states of Keras may be pictures.
A function takes arrays of any framework, and returns arrays of NumPy, or of JAX if they are traced.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn.cells import LSTMCarry
from jaxrnn.combinators import Bidirectional, Stack
from jaxrnn.convert._arrays import ForeignArray, form_of, to_jax, to_numpy
from jaxrnn.convert._errors import listed, refuse, said_by
from jaxrnn.core.cell import Carry, Cell, abstract_carry, abstract_params, one_row
from jaxrnn.core.composite import Delegate

State = list[Any]
"""The arrays of one layer and direction: `h`, or `h` and `c`."""


def carry_from_torch(cell: Cell, state: ForeignArray | Sequence[ForeignArray]) -> Carry:
    """Read the state of a recurrent module of torch.

    An `nn.LSTMCell` needs no conversion: its carry is `LSTMCarry(h, c)`. The same holds for a
    convolutional LSTM, which torch does not have, once its channels are last.

    Args:
        cell: the cell that `from_torch` returned for the module.
        state: the state that the module takes and returns: `h [layers * directions, *batch,
            hidden]`, or `(h, c)` for an `nn.LSTM`.

    Returns:
        The carry of the cell.

    Raises:
        ValueError: a shape or the number of arrays does not fit the cell; or the cell has layers of
            different kinds, which no module has.
        TypeError: an array is not floating.

    >>> import numpy as np, jaxrnn
    >>> cell = jaxrnn.Stack.repeat(jaxrnn.LSTM(4), 2, bidirectional=True)
    >>> h = c = np.zeros((4, 2, 4), np.float32)
    >>> carry = jaxrnn.convert.carry_from_torch(cell, (h, c))
    >>> carry[1].backward.c.shape
    (2, 4)
    """
    caller = "carry_from_torch"
    _check_no_pictures(caller, cell)
    arrays = [*state] if isinstance(state, list | tuple) else [state]
    sizes = _sizes_of(caller, cell)
    letters = "hc"[: len(sizes[0])]
    if len({len(each) for each in sizes}) > 1:
        refuse(caller, "the cell has layers with and without c; a module of torch has one kind")
    if len(arrays) != len(letters):
        refuse(caller, f"state has {len(arrays)} arrays, expected {' and '.join(letters)}")
    given = dict(zip(letters, arrays, strict=True))
    read = _taken_apart(caller, given, dict.fromkeys(letters, len(sizes)), "layers * directions")
    return _joined(caller, cell, [read[name][k] for k in range(len(sizes)) for name in letters])


def carry_to_torch(cell: Cell, carry: Carry) -> Any:
    """Write the state that a recurrent module of torch takes: `h`, or `(h, c)` for an `nn.LSTM`.

    Args:
        cell: the cell.
        carry: its carry, such as `jaxrnn.scan` returns, with any batch axes.

    Returns:
        Arrays `[layers * directions, *batch, hidden]`.

    Raises:
        ValueError: the carry does not fit the cell, or its layers differ in kind or size.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.Bidirectional(jaxrnn.GRU(4))
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> jaxrnn.convert.carry_to_torch(cell, cell.initial_carry(params, (2, 3))).shape
    (2, 2, 4)
    """
    _check_no_pictures("carry_to_torch", cell)
    states = _states_of("carry_to_torch", cell, carry)
    if len(shapes := {tuple(array.shape for array in state) for state in states}) > 1:
        reason = "those of a module of torch have one"
        refuse("carry_to_torch", f"the states have shapes {sorted(shapes)}; {reason}")
    h, *c = [_side_by_side(column) for column in zip(*states, strict=True)]
    return (h, *c) if c else h


def carry_from_keras(cell: Cell, states: Sequence[Any]) -> Carry:
    """Read the states of a recurrent layer of Keras.

    A layer returns them after its outputs with `return_state=True`, and takes them as
    `initial_state`.

    Args:
        cell: the cell that `from_keras` returned for the layer.
        states: the list of arrays, nested or flat; for several layers, one after the other.

    Raises:
        ValueError: a shape or the number of arrays does not fit the cell.
        TypeError: an array is not floating.

    >>> import numpy as np, jaxrnn
    >>> h = c = np.zeros((2, 4), np.float32)
    >>> jaxrnn.convert.carry_from_keras(jaxrnn.LSTM(4), [h, c]).c.shape
    (2, 4)
    """
    return _joined("carry_from_keras", cell, jax.tree.leaves(states))


def carry_to_keras(cell: Cell, carry: Carry) -> list[Any]:
    """Write the `initial_state` of a recurrent layer of Keras, nested as the layer has it.

    Args:
        cell: the cell.
        carry: its carry, such as `jaxrnn.scan` returns, with any batch axes.

    Returns:
        Lists of arrays `[*batch, hidden]`; `[*batch, *space, hidden]` for a picture.

    Raises:
        ValueError: the carry is not that of the cell.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.Bidirectional(jaxrnn.LSTM(4))
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> states = jaxrnn.convert.carry_to_keras(cell, cell.initial_carry(params, (2, 3)))
    >>> [array.shape for array in states]  # h and c forwards, h and c backwards
    [(2, 4), (2, 4), (2, 4), (2, 4)]
    """
    states = iter(_states_of("carry_to_keras", cell, carry))

    def nested(cell: Cell) -> list[Any]:
        if isinstance(cell, Bidirectional):
            return [*nested(cell.forward), *nested(cell.backward)]
        if isinstance(cell, Stack):
            layers = [nested(layer) for layer in cell.cells]
            return layers if len(layers) > 1 else layers[0]  # as Keras, which stacks no single cell
        if isinstance(cell, Delegate):
            return nested(cell.cell)
        return [to_numpy(array, own=True) for array in next(states)]

    return nested(cell)


def carry_from_onnx(cell: Cell, states: Mapping[str, ForeignArray]) -> Carry:
    """Read the states of recurrent nodes of ONNX.

    Args:
        cell: the cell that `from_onnx` returned for the nodes.
        states: for each layer k, `h_k [directions, *batch, hidden]`, the `Y_h` or `initial_h` of
            its node, and `c_k` for an LSTM. A model of `to_onnx` has these names. The names
            `initial_h_k` and `initial_c_k` are read, too.

    Raises:
        ValueError: a name is missing or unknown, or a shape does not fit the cell.
        TypeError: an array is not floating.

    >>> import numpy as np, jaxrnn
    >>> cell = jaxrnn.Stack([jaxrnn.LSTM(4), jaxrnn.GRU(3)])
    >>> h = np.zeros((1, 2, 4), np.float32)
    >>> carry = jaxrnn.convert.carry_from_onnx(cell, {"h_0": h, "c_0": h, "h_1": h[..., :3]})
    >>> carry[0].c.shape, carry[1].shape
    ((2, 4), (2, 3))
    """
    caller = "carry_from_onnx"
    _check_no_pictures(caller, cell)
    layers = _by_layer(cell, _sizes_of(caller, cell))
    names = [[f"{letter}_{k}" for letter in "hc"[: len(ways[0])]] for k, ways in enumerate(layers)]
    counts = {name: len(ways) for own, ways in zip(names, layers, strict=True) for name in own}
    given = {name.removeprefix("initial_"): array for name, array in states.items()}
    if given.keys() != counts.keys():
        refuse(caller, f"states are {sorted(states)}, expected {[*counts]}")
    read = _taken_apart(caller, given, counts, "directions")
    parts = [zip(*(read[name] for name in own), strict=True) for own in names]
    return _joined(caller, cell, [array for part in parts for way in part for array in way])


def carry_to_onnx(cell: Cell, carry: Carry) -> dict[str, np.ndarray]:
    """Write the initial states of recurrent nodes of ONNX, the inputs of a model of `to_onnx(...,
    carry=True)`.

    Args:
        cell: the cell.
        carry: its carry, such as `jaxrnn.scan` returns, with any batch axes.

    Returns:
        For each layer k, `initial_h_k` and, for an LSTM, `initial_c_k`, `[directions, *batch,
        hidden]`.

    Raises:
        ValueError: the carry is not that of the cell.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.Bidirectional(jaxrnn.LSTM(4))
    >>> params = cell.init(jax.random.key(0), in_features=3)
    >>> states = jaxrnn.convert.carry_to_onnx(cell, cell.initial_carry(params, (2, 3)))
    >>> {name: array.shape for name, array in states.items()}
    {'initial_h_0': (2, 2, 4), 'initial_c_0': (2, 2, 4)}
    """
    _check_no_pictures("carry_to_onnx", cell)
    layers = _by_layer(cell, _states_of("carry_to_onnx", cell, carry))
    return {
        f"initial_{letter}_{k}": _side_by_side(column)
        for k, layer in enumerate(layers)
        for letter, column in zip("hc", zip(*layer, strict=True), strict=False)
    }


def _form_of(caller: str, cell: Cell) -> Carry:
    """Return the shapes of a cell's carry for one row; a picture's axes of space have size 0."""
    with said_by(caller):
        return abstract_carry(cell, abstract_params(cell, 1), one_row(cell, 1))


def _check_no_pictures(caller: str, cell: Cell) -> None:
    """Refuse a cell whose states have axes of space."""
    if cell.feature_axes > 1:
        reason = "has pictures for states, which no module of torch and no node of ONNX has"
        hint = "move the channels of its states yourself"
        refuse(caller, f"{type(cell).__name__} {reason}; {hint}")


def _split(carry: Carry) -> list[State]:
    """Return the states of all layers and directions, in the order that all frameworks have."""
    parts = jax.tree.leaves(
        carry, is_leaf=lambda part: isinstance(part, LSTMCarry) or not isinstance(part, tuple)
    )
    return [jax.tree.leaves(part) for part in parts]


def _sizes_of(caller: str, cell: Cell) -> list[list[int]]:
    """Return the sizes of `h` and `c` in all layers and directions."""
    return [[leaf.shape[-1] for leaf in state] for state in _split(_form_of(caller, cell))]


def _states_of(caller: str, cell: Cell, carry: Carry) -> list[State]:
    """Return the states of a carry. Refuse a carry that is not the cell's."""
    given, wanted = jax.tree.structure(carry), jax.tree.structure(_form_of(caller, cell))
    if given != wanted:
        refuse(caller, f"carry has the structure {given}, expected {wanted}")
    return _split(_joined(caller, cell, jax.tree.leaves(carry)))


def _joined(caller: str, cell: Cell, arrays: Sequence[Any]) -> Carry:
    """Return the carry of a cell from the arrays of all its states. Refuse arrays that do not fit.

    All have the batch axes of the first.
    """
    form = _form_of(caller, cell)
    sizes = enumerate(_split(form))
    names = [f"{name} of state {k}" for k, state in sizes for name in "hc"[: len(state)]]
    if len(arrays) != len(names):
        refuse(caller, f"there are {len(arrays)} arrays, expected {len(names)}: {listed(names)}")
    read = [to_jax(array, f"{caller}: {n}") for n, array in zip(names, arrays, strict=True)]
    _check_shapes(caller, dict(zip(names, read, strict=True)), jax.tree.leaves(form))
    return jax.tree.unflatten(jax.tree.structure(form), read)


def _check_shapes(caller: str, read: Mapping[str, Array], forms: Sequence[Any]) -> None:
    """Refuse arrays with other batch axes than the first, or another size than their state; how
    large a picture is, its h tells.
    """
    first = next(iter(read.values()), None)
    batch = first.shape[: max(0, first.ndim - forms[0].ndim)] if first is not None else ()
    space: tuple[int, ...] = ()
    for (name, array), form in zip(read.items(), forms, strict=True):
        axes = form.ndim - 1
        if name.startswith("h"):
            space = array.shape[-form.ndim : -1]
        if len(space) < axes:
            wanted = f"[*batch, *space, {form.shape[-1]}] with {axes} axes of space"
            refuse(caller, f"{name} has shape {array.shape}, expected {wanted}")
        if array.shape != (wanted := (*batch, *space, form.shape[-1])):
            refuse(caller, f"{name} has shape {array.shape}, expected {wanted}")


def _taken_apart(
    caller: str, given: Mapping[str, Any], counts: Mapping[str, int], axis: str
) -> dict[str, Array]:
    """Return arrays of several states each. Refuse those whose first axis is not as long."""
    for name, array in given.items():
        shape = form_of(array, f"{caller}: {name}").shape
        if shape[:1] != (counts[name],):
            wanted = f"expected [{axis}, *batch, hidden] with {axis} = {counts[name]}"
            refuse(caller, f"{name} has shape {shape}, {wanted}")
    return {name: to_jax(array, f"{caller}: {name}") for name, array in given.items()}


def _side_by_side(arrays: Sequence[Array]) -> np.ndarray:
    """Stack arrays on a new first axis, in NumPy."""
    return to_numpy(jnp.stack(arrays), own=True)


def _by_layer(cell: Cell, states: list[Any]) -> list[list[Any]]:
    """Group what there is for each layer and direction by layer."""
    if not isinstance(cell, Stack):
        return [states]
    layers, rest = [], states
    for inner in cell.cells:
        count = len(_split(_form_of("states", inner)))
        layers += _by_layer(inner, rest[:count])
        rest = rest[count:]
    return layers
