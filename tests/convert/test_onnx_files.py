"""ONNX models as files: nodes on each other, mistakes in a model, and files that are cut, foreign,
changed or half written.
"""

import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

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
            match=r"is not a complete ONNX file .* was it cut off|graph has no RNN, GRU, LSTM node",
        ):
            from_onnx(written)


@pytest.mark.parametrize(
    "content", [b"hello", b"\x80\x04\x95", b"\xff" * 100, b'{"a": 1}', b"PK\x03\x04"]
)
def test_foreign_files_are_refused(written, content):
    written.write_bytes(content)
    with pytest.raises(ValueError, match=r"from_onnx: .*model\.onnx is not a complete ONNX file"):
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
