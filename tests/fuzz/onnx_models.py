"""ONNX models with a damage: `from_onnx` refuses them by name, or reads what ONNX Runtime runs."""

import importlib.util
import random
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxrnn
from jaxrnn import GRU, LSTM, Bidirectional, Cell, Elman, Reversed, Stack
from jaxrnn.convert import from_onnx, to_onnx
from tests.fuzz._refusals import unless_refused
from tests.support.conversions import BATCH, TIME, params_like


def module(name: str) -> Any:
    """None if it is not installed."""
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


onnx, onnxruntime = module("onnx"), module("onnxruntime")

HIDDEN = 4
CELLS: tuple[Cell, ...] = (
    Elman(HIDDEN),
    GRU(HIDDEN),
    GRU(HIDDEN, reset_gate="before", clip=0.5),
    LSTM(HIDDEN, peepholes=True),
    LSTM(HIDDEN, coupled=True),
    Bidirectional(LSTM(HIDDEN, bias=False)),
    Reversed(Elman(HIDDEN, activation="relu", bias=False)),
    Stack([Bidirectional(GRU(HIDDEN)), Elman(HIDDEN)]),
)
OPERATORS = ("RNN", "GRU", "LSTM")
WORDS = (
    "",
    "forward",
    "reverse",
    "bidirectional",
    "up",
    "Tanh",
    "Relu",
    "xs",
    "layer_0.W",
    "layer_0.R",
)


def case(random: random.Random) -> str:
    if onnx is None or onnxruntime is None:
        return "no onnx"
    cell = random.choice(CELLS)
    rng = np.random.default_rng(random.randrange(2**32))
    params = jax.tree.map(
        lambda leaf: (rng.normal(size=leaf.shape) / 2).astype("f"), params_like(cell)
    )
    model = to_onnx(cell, params)
    damage = random.choice([bytes_, *[inputs] * 2, *[attributes] * 3, *[tensors] * 3])
    damaged, words = damage(random, model)
    what = f"{cell}, {words}"
    if isinstance(damaged, bytes):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(damaged)
            read = unless_refused(lambda: from_onnx(path), "from_onnx", (), what)
        damaged = None if read is None else onnx.load_model_from_string(damaged)
    else:
        read = unless_refused(lambda: from_onnx(damaged), "from_onnx", (), what)
    return "refused" if read is None else compared(damaged, read, what)


def compared(model: Any, read: tuple[Cell, Any], what: str) -> str:
    """Hold what was read to what ONNX Runtime computes at the last recurrent node."""
    cell, params = read
    recurrent = [k for k, node in enumerate(model.graph.node) if node.op_type in OPERATORS]
    made = model.graph.node[recurrent[-1]].output[0]
    readable = made and isinstance(made, str)  # bytes, where they are no UTF-8
    if not readable or model.graph.node[recurrent[0]].input[0] != model.graph.input[0].name:
        return "read, of other inputs or outputs"
    del model.graph.node[recurrent[-1] + 1 :], model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name=made))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1  # others would spin, at ten times the cost
    features = jax.tree.leaves(params)[0].shape[0]
    xs = np.random.default_rng(0).normal(size=(TIME, BATCH, features)).astype("f")
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        (y,) = session.run(None, {model.graph.input[0].name: xs})
    except Exception as error:  # of many types
        return f"read, not run: {type(error).__name__}"
    _, ys = jax.jit(lambda params, xs: jaxrnn.scan(cell, params, xs))(params, xs)
    side_by_side = np.swapaxes(y, 1, 2).reshape(TIME, BATCH, -1)
    np.testing.assert_allclose(ys, side_by_side, 1e-4, 1e-5, err_msg=what)
    return "read"


# Damages: each returns the model, or the bytes of a file, and says what it did


def bytes_(random: random.Random, model: Any) -> tuple[bytes, str]:
    """A file with a few bytes changed, dropped or put in."""
    content = bytearray(model.SerializeToString())
    for _ in range(random.choice((1, 1, 2, 8))):
        place, byte = random.randrange(len(content)), random.randrange(256)
        change = random.choice(("set", "flip", "drop", "put", "cut"))
        if change == "set":
            content[place] = byte
        elif change == "flip":
            content[place] ^= 1 << byte % 8
        elif change == "drop":
            del content[place]
        elif change == "put":
            content.insert(place, byte)
        elif change == "cut" and byte < 64:
            del content[place + 1 :]
    return bytes(content), "bytes changed"


def node_of(random: random.Random, model: Any) -> Any:
    return random.choice([node for node in model.graph.node if node.op_type in OPERATORS])


def inputs(random: random.Random, model: Any) -> tuple[Any, str]:
    """A node that takes, or gives, something else."""
    node = node_of(random, model)
    names = [tensor.name for tensor in model.graph.initializer] + [*WORDS, "initial", "zeros"]
    for name, value in (("initial", 1), ("zeros", 0)):
        array = np.full((1, BATCH, HIDDEN), value, "f")
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    change = random.choice(
        ("drop", "add", "replace", "replace", "swap", "operator", "domain", "output")
    )
    places = range(len(node.input))
    place, other, name = random.choice(places), random.choice(places), random.choice(names)
    if change == "drop":
        del node.input[place]
    elif change == "add":
        node.input.extend([name] * random.randint(1, 4))
    elif change == "replace":
        node.input[place] = name
    elif change == "swap":
        node.input[place], node.input[other] = node.input[other], node.input[place]
    elif change == "operator":
        node.op_type = random.choice(("RNN", "GRU", "LSTM", "Relu", ""))
    elif change == "domain":
        node.domain = random.choice(("ai.onnx", "my.own", "com.microsoft"))
    else:
        node.output[random.randrange(len(node.output))] = random.choice(("", "other"))
    return model, f"{change} of an input ({place}, {other}, {name!r})"


def attributes(random: random.Random, model: Any) -> tuple[Any, str]:
    """A node with another attribute."""
    node = node_of(random, model)
    known = [attribute.name for attribute in node.attribute]
    name = random.choice(
        [*known * 2, "direction", "clip", "layout", "activations", "activation_alpha"]
    )
    name = random.choice(
        [name] * 6 + ["hidden_size", "input_forget", "linear_before_reset", "speed"]
    )
    numbers = (-1, 0, 1, 2, 3, 4, 8, 2**40, -0.5, 0.0, 0.25, 1.5, float("nan"), float("inf"))
    scalars = (*numbers, *WORDS, *numbers)
    value: Any = random.choice(scalars)
    if random.random() < 0.3:
        values = random.choice((numbers[:8], numbers[8:], WORDS))
        value = [random.choice(values) for _ in range(random.randint(1, 4))]
    if name == "activations":
        functions = ("Tanh", "sigmoid", "Relu", "HardSigmoid", "Elu", "Affine", "Softsign", "Gelu")
        value = [random.choice(functions) for _ in range(random.choice((1, 2, 2, 3, 3, 4, 6)))]
    change = random.choice(("put", "put", "put", "twice", "remove", "clear"))
    old = [attribute for attribute in node.attribute if attribute.name == name]
    if change in ("put", "remove"):
        for attribute in old:
            node.attribute.remove(attribute)
    if change == "clear" and old:
        old[0].Clear()
        old[0].name = name
    elif change != "remove":
        node.attribute.append(onnx.helper.make_attribute(name, value))
    return model, f"attribute {name}: {change} {value!r}"


def tensors(random: random.Random, model: Any) -> tuple[Any, str]:
    """A constant that says something else."""
    tensor = random.choice(model.graph.initializer)
    name, array = tensor.name, onnx.numpy_helper.to_array(tensor)
    change = random.choice(
        (
            "size",
            "axis",
            "type",
            "short",
            "long",
            "cast",
            "typed",
            "empty",
            "remove",
            "twice",
            "shape",
            "value",
        )
    )
    if change == "size" and tensor.dims:
        place = random.randrange(len(tensor.dims))
        tensor.dims[place] = random.choice((-1, 0, 1, 2, 2**40, -tensor.dims[place]))
    elif change == "axis":
        tensor.dims.append(random.choice((1, 2, -1)))
    elif change == "type":
        tensor.data_type = random.randrange(28)
    elif change == "short":
        tensor.raw_data = tensor.raw_data[: -random.choice((1, 4))]
    elif change == "long":
        tensor.raw_data += bytes(random.choice((1, 4)))
    elif change == "cast":
        kinds = ("float16", "float64", "int32", "bool", "complex64")
        tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(random.choice(kinds)), name))
    elif change == "typed":
        tensor.ClearField("raw_data")
        tensor.float_data.extend(array.astype("f").reshape(-1)[random.choice((0, 0, 1)) :])
    elif change == "empty":
        tensor.ClearField("raw_data")
    elif change == "remove":
        model.graph.initializer.remove(tensor)
    elif change == "twice":
        model.graph.initializer.append(onnx.numpy_helper.from_array(2 * array, name))
    elif change == "shape":
        changes = (
            array.T,
            array[None],
            array.reshape(-1),
            array[:0],
            np.concatenate([array, array]),
        )
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(np.ascontiguousarray(random.choice(changes)), name)
        )
    else:
        tensor.CopyFrom(onnx.numpy_helper.from_array((array * 2).astype(array.dtype), name))
    return model, f"{change} of {name}: {tensor.dims} {tensor.data_type}"
