"""ONNX models as files: nodes on each other, mistakes in a model, and files that are cut, foreign,
changed or half written.
"""

import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import ml_dtypes
import numpy as np
import pytest

from jaxrnn import GRU, LSTM, Bidirectional, Reversed, Stack
from jaxrnn.convert import from_onnx, from_torch, to_onnx
from tests.support.conversions import FEATURES, HIDDEN, random_params
from tests.support.helpers import assert_close, assert_equal
from tests.support.onnx_models import node_model

onnx = pytest.importorskip("onnx")


@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("batch_first", [False, True], ids=["time_first", "batch_first"])
# they squeeze in two ways
@pytest.mark.parametrize(("kind", "opset"), [("RNN", 20), ("GRU", 12), ("LSTM", 17)])
# torch is about to retire this exporter, the one that needs no further package
@pytest.mark.filterwarnings("ignore")
def test_what_torch_exports(kind, opset, batch_first, bidirectional, tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch: `make oracle-test` installs it")
    module = getattr(torch.nn, kind)(
        FEATURES, HIDDEN, 2, bidirectional=bidirectional, batch_first=batch_first
    )
    options = {
        "input_names": ["xs"],
        "dynamic_axes": {"xs": {0: "a", 1: "b"}},
        "opset_version": opset,
        "dynamo": False,
    }
    torch.onnx.export(module, (torch.ones(2, 3, FEATURES),), tmp_path / "m.onnx", **options)
    cell, params = from_onnx(tmp_path / "m.onnx")
    wanted, wanted_params = from_torch(
        {name: tensor.detach() for name, tensor in module.state_dict().items()}
    )
    assert cell == wanted
    assert_close(params, wanted_params, 1e-7)


def chain(*between: Any, layout: int = 0) -> Any:
    """A bidirectional GRU under an LSTM, and what is between them."""
    make, bottom = (
        onnx.helper.make_node,
        node_model("GRU", {"direction": "bidirectional", "layout": layout}),
    )
    rng, rows = np.random.default_rng(0), 4 * HIDDEN
    arrays = {
        "W2": rng.normal(size=(1, rows, 2 * HIDDEN)),
        "R2": rng.normal(size=(1, rows, HIDDEN)),
    }
    constants = {name: a.astype(np.float32) for name, a in arrays.items()} | {
        name: np.array(value)
        for name, value in {
            "floats": [0.0, 0.0, -1.0],
            "join": [0, 0, -1],
            "flat": [0, -1],
            "sizes": [4, 6, -1],
            "two": [2],
            "half": 0.5,
        }.items()
    }
    bottom.graph.initializer.extend(
        onnx.numpy_helper.from_array(a, name) for name, a in constants.items()
    )
    last = between[-1].output[0] if between else "Y"
    bottom.graph.node.extend(
        [*between, make("LSTM", [last, "W2", "R2"], ["Z"], "top", layout=layout)]
    )
    return bottom


def steps(*names: str) -> list[Any]:
    """Nodes of these operators with these arguments, from Y on."""
    nodes, name = [], "Y"
    for k, text in enumerate(names):
        operator, *inputs = text.split()
        attributes = (
            {"perm": [int(digit) for digit in inputs.pop()]} if operator == "Transpose" else {}
        )
        nodes.append(
            onnx.helper.make_node(operator, [name, *inputs], [f"t{k}"], f"step{k}", **attributes)
        )
        name = f"t{k}"
    return nodes


def test_nodes_on_each_other_are_a_stack():
    for model in (
        chain(*steps("Transpose 0213", "Identity", "Reshape join", "Dropout half")),
        chain(*steps("Reshape join"), layout=1),
        chain(*steps("Transpose 0213", "Transpose 1023", "Transpose 1023", "Reshape join")),
    ):
        cell, params = from_onnx(model)
        assert cell == Stack(
            [Bidirectional(GRU(HIDDEN, reset_gate="before")), LSTM(HIDDEN, bias=False)]
        )
        assert from_onnx(model, "top")[0] == LSTM(HIDDEN, bias=False)
        assert_equal(from_onnx(model, "node")[1], params[0])


BROKEN_CHAINS = {
    "reshape": (
        ["Reshape join"],
        "Reshape node 'step0' does more than put directions side by side",
    ),
    "flat": (["Transpose 0213", "Reshape flat"], "Reshape node 'step1' does more than put"),
    "sizes": (["Transpose 0213", "Reshape sizes"], "Reshape node 'step1' does more than put"),
    "floats": (["Transpose 0213", "Reshape floats"], "Reshape node 'step1' does more than put"),
    "computed": (["Transpose 0213", "Reshape lengths"], "Reshape node 'step1' does more than put"),
    "squeeze": (["Squeeze two"], "Squeeze node 'step0' does more than put"),
    "function": (
        ["Transpose 0213", "Relu", "Reshape join"],
        "Relu node 'step1' does more than put",
    ),
    "axes": (
        ["Transpose 0213", "Reshape join", "Transpose 102"],
        r"it comes with the axes \['batch', 'time', 'features'\], expected \['time', ",
    ),
    "no axes": (["Transpose 0219"], "Transpose node 'step0' does more than put"),
    "nothing between": ([], r"with the axes \['time', 'directions', 'batch', 'features'\]"),
}


@pytest.mark.parametrize(("names", "message"), BROKEN_CHAINS.values(), ids=BROKEN_CHAINS)
def test_nodes_that_are_no_stack(names, message):
    start, end = (
        "from_onnx: LSTM node 'top' does not take all that 'node' gives as its X: ",
        r"; name one node to read, of \['node', 'top'\]",
    )
    with pytest.raises(ValueError, match=f"{start}.*{message}.*{end}"):
        from_onnx(chain(*steps(*names)))


def test_a_reshape_whose_zeros_are_sizes():
    model = chain(*steps("Transpose 0213", "Reshape join"))
    model.graph.node[2].attribute.append(onnx.helper.make_attribute("allowzero", 1))
    with pytest.raises(ValueError, match="Reshape node 'step1' does more than put"):
        from_onnx(model)


def test_a_node_over_the_one_before_the_last():
    model = chain(*steps("Transpose 0213", "Reshape join"))
    # of the same name
    model.graph.node.append(onnx.helper.make_node("LSTM", ["t1", "W2", "R2"], ["Z2"], "top"))
    with pytest.raises(
        ValueError,
        match=r"'top' does not take all that 'top' gives as its X: it comes from elsewhere",
    ):
        from_onnx(model)
    with pytest.raises(
        ValueError,
        match=r"2 recurrent nodes are named 'top', expected one; "
        r"there are \['node', 'top', 'top'\]",
    ):
        from_onnx(model, "top")


def test_final_states_and_other_arrays_are_no_input_of_a_stack():
    for name, message in (
        ("Y_h", "it is a final state"),
        ("lengths", "it comes from elsewhere"),
        ("", "it comes from elsewhere"),
    ):
        model = chain()
        model.graph.node[-1].input[0] = name
        with pytest.raises(ValueError, match=message):
            from_onnx(model)


def mutated(model: Any, change: Any) -> Any:
    """The model, after a change in its node."""
    change(model.graph.node[0])
    return model


def resized(name: str, sizes: list[int]) -> Any:
    """A model whose tensor of that name says that it has other sizes."""
    model = node_model("RNN")
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
    tensor.dims[:] = sizes
    return model


WRONG = np.ones((1, HIDDEN, HIDDEN), np.float32)
MISTAKES: dict[str, tuple[Any, str | None, str]] = {
    "no node": (
        lambda: node_model("RNN", nodes=[]),
        None,
        "the model's graph has no RNN, GRU, LSTM node",
    ),
    "another": (
        lambda: node_model("RNN"),
        "rnn",
        r"0 recurrent nodes are named 'rnn', expected one; there are \['node'\]",
    ),
    "attribute": (
        lambda: node_model("RNN", {"speed": 1}),
        None,
        r"RNN node 'node': attribute speed is unknown, expected some of \['act",
    ),
    "others' attribute": (
        lambda: node_model("RNN", {"input_forget": 1}),
        None,
        "attribute input_forget is unknown",
    ),
    "type": (
        lambda: node_model("GRU", {"clip": 1}),
        None,
        "GRU node 'node': attribute clip has type INT, expected FLOAT",
    ),
    "direction": (
        lambda: node_model("RNN", {"direction": "up"}),
        None,
        r"direction is 'up', expected one of \['forward', 'reverse', 'b",
    ),
    "layout": (
        lambda: node_model("RNN", {"layout": 2}),
        None,
        r"attribute layout is 2, expected one of \[0, 1\]",
    ),
    "coupled": (
        lambda: node_model("LSTM", {"input_forget": 2}),
        None,
        r"attribute input_forget is 2, expected one of \[0, 1\]",
    ),
    "reset": (
        lambda: node_model("GRU", {"linear_before_reset": 3}),
        None,
        r"attribute linear_before_reset is 3, expected one of \[0, 1\]",
    ),
    "clip": (
        lambda: node_model("GRU", {"clip": -1.0}),
        None,
        "GRU node 'node': GRU: clip is -1.0, expected a positive number",
    ),
    "function": (
        lambda: node_model("GRU", {"activations": ["Sigmoid", "Gelu"]}),
        None,
        r"GRU node 'node': activation 'Gelu' is unknown, expected one of \['Affine', 'Elu'",
    ),
    "functions": (
        lambda: node_model("GRU", {"activations": ["Tanh"]}),
        None,
        r"activations are \['Tanh'\], expected 2",
    ),
    "alpha": (
        lambda: node_model("RNN", {"activations": ["ThresholdedRelu"]}),
        None,
        "activation_alpha has no number for ThresholdedRelu, and runtimes do not agree on a "
        "default",
    ),
    "beta": (
        lambda: node_model("RNN", {"activations": ["ScaledTanh"], "activation_alpha": [1.0]}),
        None,
        "activation_beta has no number for ScaledTanh",
    ),
    "left over": (
        lambda: node_model("RNN", {"activation_alpha": [1.0]}),
        None,
        r"activation_alpha has 1 more than .*\['Tanh'\] take",
    ),
    "mirror": (
        lambda: node_model("LSTM", {"input_forget": 1, "activations": ["Tanh"] * 3}),
        None,
        "LSTM node 'node': the gates of the LSTM are coupled, in ONNX as f = 1 - i .*, such as "
        "'sigmoid', not for 'tanh'",
    ),
    "axes": (
        lambda: node_model("RNN", replaced={"W": WRONG[0]}),
        None,
        r"W has shape \(5, 5\), expected \[directions, gates",
    ),
    "shape": (
        lambda: node_model("LSTM", replaced={"R": WRONG}),
        None,
        r"R has shape \(1, 5, 5\), expected \(1, 20, 5\)",
    ),
    "hidden": (
        lambda: node_model("RNN", {"hidden_size": 4}),
        None,
        r"W has shape \(1, 5, 3\), expected \(1, 4, 3\)",
    ),
    "ways": (
        lambda: mutated(
            node_model("RNN"),
            lambda node: node.attribute.append(
                onnx.helper.make_attribute("direction", "bidirectional")
            ),
        ),
        None,
        r"W has shape \(1, 5, 3\), expected \(2, 5, 3\)",
    ),
    "missing": (
        lambda: node_model("RNN", replaced={"R": None}),
        None,
        r"R is missing; there are \['B', 'W'\]",
    ),
    "inputs": (
        lambda: mutated(node_model("RNN"), lambda node: node.input.__delitem__(slice(2, None))),
        None,
        r"R is missing; there are \['W'\]",
    ),
    "computed": (
        lambda: mutated(node_model("RNN"), lambda node: node.input.__setitem__(1, "X")),
        None,
        "W is 'X', which is computed or an input; expected a constant: fold constants first",
    ),
    "initial": (
        lambda: node_model("RNN", replaced={"initial_h": np.eye(HIDDEN, dtype="f")[None]}),
        None,
        r"initial_h is a constant of shape \(1, 5, 5\), not zero, and not one .* Make it an input",
    ),
    "integers": (
        lambda: node_model("RNN", replaced={"W": np.ones((1, HIDDEN, 3), int)}),
        None,
        "W has dtype int64, expected floating",
    ),
    "float64": (
        lambda: node_model("RNN", dtype=np.float64),
        None,
        "W has dtype float64, which JAX would round",
    ),
    "surplus": (
        lambda: mutated(node_model("RNN"), lambda node: node.input.extend(["initial_c", "P"])),
        None,
        r"RNN node 'node': inputs \['initial_c', 'P'\] are too many, expected at most \['X', 'W', ",
    ),
    "dtypes": (
        lambda: node_model("RNN", replaced={"R": np.ones((1, HIDDEN, HIDDEN), np.float16)}),
        None,
        "RNN node 'node': R has dtype float16, expected float32, that of W; cast one of them",
    ),
    "negative": (
        lambda: resized("W", [-1, HIDDEN, FEATURES]),
        None,
        r"tensor 'W' has the sizes \[-1, 5, 3\], expected none below 0",
    ),
    "eight bits": (
        lambda: node_model("RNN", replaced={"W": np.ones((1, HIDDEN, 3), ml_dtypes.float8_e5m2)}),
        None,
        "RNN node 'node': W has dtype float8_e5m2, expected floating numbers: bfloat16, float16",
    ),
    "twice": (
        lambda: mutated(node_model("RNN"), lambda node: node.output.__setitem__(0, "W")),
        None,
        "RNN node 'node': W is 'W', and 2 arrays are named so",
    ),
    "from nowhere": (
        lambda: mutated(node_model("RNN"), lambda node: node.input.__setitem__(5, "start")),
        None,
        "initial_h is 'start', a name of no array in the model",
    ),
    "attribute twice": (
        lambda: mutated(node_model("RNN"), lambda node: node.attribute.append(node.attribute[0])),
        None,
        "RNN node 'node': attribute hidden_size is there 2 times",
    ),
    "lengths": (
        lambda: node_model("RNN", replaced={"lengths": np.ones(2, np.int32)}),
        None,
        "sequence_lens is 'lengths', a constant, so the node is for these lengths alone; make",
    ),
    "no path": (lambda: {"W": 1}, None, "expected str, bytes or os.PathLike object, not dict"),
}


@pytest.mark.parametrize(("model", "node", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(model, node, message):
    with pytest.raises((ValueError, TypeError), match=message):
        from_onnx(model(), node)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    to_onnx(LSTM(4), random_params(LSTM(4)), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_a_file_cut_anywhere_is_refused(written):
    whole = written.read_bytes()
    # the graph, which is whole without it
    behind = 2 + len(onnx.load(written).opset_import[0].SerializeToString())
    for length in [*range(0, len(whole) - behind, 7), len(whole) - behind - 1]:
        written.write_bytes(whole[:length])
        with pytest.raises(
            ValueError,
            match=r"is no whole ONNX file .* was it cut off|graph has no RNN, GRU, LSTM node",
        ):
            from_onnx(written)


@pytest.mark.parametrize(
    "content", [b"hello", b"\x80\x04\x95", b"\xff" * 100, b'{"a": 1}', b"PK\x03\x04"]
)
def test_foreign_files_are_refused(written, content):
    written.write_bytes(content)
    with pytest.raises(ValueError, match=r"from_onnx: .*model\.onnx is no whole ONNX file"):
        from_onnx(written)


def test_changed_files_are_read_or_refused(written):
    """Whatever was changed, nothing else is raised."""
    whole = written.read_bytes()
    for place, byte in np.random.default_rng(0).integers(0, (len(whole), 256), (300, 2)):
        written.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
        try:
            cell, _ = from_onnx(written)
            assert isinstance(cell, LSTM | GRU | Reversed | Bidirectional)
        except (ValueError, TypeError) as error:
            assert str(error).startswith("from_onnx: ")  # noqa: PT017  (either may happen)


def test_data_beside_a_file(written):
    cell, params = from_onnx(written)
    model = onnx.load(written)
    onnx.save(model, written, save_as_external_data=True, location="weights", size_threshold=0)
    again, read = from_onnx(written)
    assert again == cell
    assert_equal(read, params)
    (written.parent / "weights").unlink()
    with pytest.raises((ValueError, OSError), match="weights"):
        from_onnx(written)


def test_missing_files_are_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        from_onnx(tmp_path / "none")


@pytest.mark.parametrize("fails", ["fsync", "replace", "write"])
def test_a_file_is_written_whole_or_not_at_all(written, fails):
    before = written.read_bytes()
    where = {"fsync": (os, "fsync"), "replace": (Path, "replace"), "write": (Path, "open")}[fails]
    with (
        mock.patch.object(*where, side_effect=OSError("disk full")),
        pytest.raises(OSError, match="disk full"),
    ):
        to_onnx(GRU(4), random_params(GRU(4)), written)
    assert written.read_bytes() == before
    assert list(written.parent.iterdir()) == [written]


def test_without_the_package():
    with mock.patch.dict(sys.modules, {"onnx": None}):
        for call in (
            lambda: from_onnx("model.onnx"),
            lambda: to_onnx(LSTM(4), random_params(LSTM(4))),
        ):
            with pytest.raises(
                ImportError, match="with the package onnx; install it: pip install onnx"
            ):
                call()
