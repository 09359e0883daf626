"""Files of cells and parameters: every bit comes back, and nothing that is wrong with a file goes
unnoticed.
"""

import dataclasses
import json
import os
import time
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import jaxrnn
from jaxrnn.core import files
from jaxrnn.initializers import Chrono
from tests.support import user_cells
from tests.support.helpers import make_params
from tests.support.specs import SPECS, every

USER_CELLS = [
    type(spec.cell)
    for spec in SPECS
    if spec.id.startswith("user") and type(spec.cell).__module__ == user_cells.__name__
]


def bits(tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.dtype, leaf.shape, np.asarray(leaf).tobytes()) for leaf in leaves]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "cell.safetensors"
    jaxrnn.save(path, jaxrnn.LSTM(4), jaxrnn.LSTM(4).init(jax.random.key(0), 3))
    return path


def same(value):
    return value


def rewritten(path: Path, change=same, change_arrays=same) -> Path:
    """The file with another content of its metadata, or other arrays, and a checksum that fits."""
    with safetensors.safe_open(path, "np") as file:
        content = json.loads((file.metadata() or {})["jaxrnn"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    content, arrays = change(content), change_arrays(arrays)
    content["sha256"] = files.checksum({k: v for k, v in content.items() if k != "sha256"}, arrays)
    path.write_bytes(safetensors.numpy.save(arrays, {"jaxrnn": json.dumps(content)}))
    return path


def described(path: Path, **changes) -> Path:
    """The file with another description of its cell."""
    return rewritten(path, lambda content: content | {"cell": content["cell"] | changes})


@every
def test_every_cell_comes_back(spec, tmp_path):
    path = tmp_path / "cell"
    params = make_params(spec, jnp.float32)
    if isinstance(spec.cell, user_cells.Highway):
        with pytest.raises(
            ValueError,
            match="save: Highway is a Highway that is not jaxrnn's Highway; give your class",
        ):
            jaxrnn.save(path, spec.cell, params)
        return
    jaxrnn.save(path, spec.cell, params)
    cell, again = jaxrnn.load(path, known=[c for c in USER_CELLS if c is not user_cells.Highway])
    assert cell == spec.cell
    assert hash(cell) == hash(spec.cell)
    assert bits(again) == bits(params)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float64])
def test_every_dtype_comes_back(x64, tmp_path, dtype):
    cell = jaxrnn.Bidirectional(jaxrnn.LSTM(4, forget_bias=Chrono(20), clip=float("inf")))
    params = cell.init(jax.random.key(0), 3, dtype)
    params = params._replace(forward=params.forward._replace(b=params.forward.b.at[0].set(-0.0)))
    jaxrnn.save(tmp_path / "cell", cell, params)
    assert bits(jaxrnn.load(tmp_path / "cell")) == bits((cell, params))


def test_float64_is_refused_where_jax_has_none(tmp_path):
    with jax.enable_x64(True):
        jaxrnn.save(
            tmp_path / "cell", jaxrnn.GRU(4), jaxrnn.GRU(4).init(jax.random.key(0), 3, jnp.float64)
        )
    with pytest.raises(ValueError, match="float64, which JAX would round; set jax_enable_x64"):
        jaxrnn.load(tmp_path / "cell")


def test_what_is_loaded_runs(saved):
    cell, params = jaxrnn.load(saved)
    jaxrnn.scan(cell, params, jnp.ones((5, 2, 3)))


def test_a_file_cut_anywhere_is_refused(saved):
    whole = saved.read_bytes()
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        saved.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="not a whole safetensors file"):
            jaxrnn.load(saved)


def test_a_file_with_a_changed_byte_is_refused(saved):
    whole = saved.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 200):
        changed = bytearray(whole)
        changed[place] ^= 1
        saved.write_bytes(bytes(changed))
        with pytest.raises(ValueError, match=str(saved)):
            jaxrnn.load(saved)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"\x80\x04\x95",
        b"\xff" * 100,
        (10**12).to_bytes(8, "little") + b"{}",
        b"PK\x03\x04",
    ],
)
def test_foreign_files_are_refused(tmp_path, content):
    (tmp_path / "cell").write_bytes(content)
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        jaxrnn.load(tmp_path / "cell")


def test_safetensors_of_others_are_refused(tmp_path):
    (tmp_path / "cell").write_bytes(safetensors.numpy.save({"w": np.ones(3)}))
    with pytest.raises(
        ValueError, match=r"jaxrnn\.save did not write it; jaxrnn\.convert reads other layouts"
    ):
        jaxrnn.load(tmp_path / "cell")


def test_later_versions_are_refused(saved):
    with pytest.raises(
        ValueError,
        match="its format has version 2, but this jaxrnn reads version 1; upgrade jaxrnn",
    ):
        jaxrnn.load(rewritten(saved, lambda content: content | {"version": 2}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class": "Popen"}, "it has a 'Popen', expected a class of jaxrnn"),
        ({"class": "HardSigmoid", "hidden": 4}, "unexpected keyword argument"),
        ({"hidden": -1}, "hidden is -1, expected a positive integer"),
        ({"hidden": 5}, r"its array w_x has shape \(3, 16\), expected \(3, 20\)"),
        ({"hidden": 10**12}, r"hidden is 1000000000000, expected a positive integer below 2\*\*31"),
        ({"hidden": 2**31 - 1}, "its array w_x has shape"),
        ({"peepholes": True}, "it lacks the array p_f of its cell"),
        ({"bias": False}, "it holds an array b, which its cell does not have"),
        ({"bias": 1}, "bias is 1, expected True or False"),
        ({"clip": 10**400}, "expected a positive number"),
        ({"forget_bias": [1.0, 2.0]}, r"forget_bias is \(1\.0, 2\.0\), expected a number"),
        ({"gate_activation": "eval"}, "activation 'eval' is unknown"),
        ({"gate_activation": {"class": "Orthogonal"}}, "gate_activation is Orthogonal"),
        ({"w_x_init": {"class": "HardSigmoid"}}, "w_x_init is HardSigmoid"),
        ({"gate_activation": {"class": "LeakyReLU", "slope": "1"}}, "slope is '1', expected"),
        ({"b_init": "identity"}, r"Identity: shape is \(4,\), expected two axes"),
        ({"speed": 3}, "unexpected keyword argument 'speed'"),
        (
            {"w_x_init": {"class": "Orthogonal", "gain": "x" * 2_000_000}},
            "has 2000.* characters, more than",
        ),
    ],
)
def test_descriptions_of_nothing_are_refused(saved, changes, message):
    with pytest.raises(ValueError, match=message):
        jaxrnn.load(described(saved, **changes))


def both(cell: dict, depth: int) -> dict:
    """A cell that is doubled at each level, by a constructor that fills in what is not there."""
    for _ in range(depth):
        cell = {"class": "Bidirectional", "forward": cell, "backward": None}
    return cell


def layers(name: str, count: int, **fields) -> dict:
    return {"class": "Stack", "cells": [{"class": name, **fields}] * count}


def around(cell: dict, depth: int) -> dict:
    for _ in range(depth):
        cell = {"class": "Reversed", "cell": cell}
    return cell


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cell: both(cell, 18), "Bidirectional: backward is None, which save does not"),
        (lambda cell: {"class": "Bidirectional", "forward": cell}, "backward is None, which save"),
        (lambda _: layers("Elman", 9_000, hidden=4), "describes 9000 cells, but holds .* 3"),
        (lambda _: layers("HardSigmoid", 10_001), "has 10002 cells and the like, more than 10000"),
        (lambda cell: around(cell, 65), "has 68 levels, more than 64"),
    ],
    ids=["doubled", "left out", "cells", "parts", "levels"],
)
def test_descriptions_of_too_much_are_refused_at_once(saved, change, message):
    start = time.process_time()
    with pytest.raises(ValueError, match=message):
        jaxrnn.load(rewritten(saved, lambda content: content | {"cell": change(content["cell"])}))
    assert time.process_time() - start < 1


@pytest.mark.parametrize("in_features", [0, -3, 2**40, 5, 3.0, True, None, "3", [3]])
def test_sizes_of_inputs_that_no_array_has_are_refused(saved, in_features):
    with pytest.raises(ValueError, match=f"{saved} holds no cell .*(in_features is| has shape)"):
        jaxrnn.load(rewritten(saved, lambda content: content | {"in_features": in_features}))


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.int32, np.uint64, np.complex64])
def test_parameters_of_another_kind_are_neither_saved_nor_loaded(saved, dtype):
    cell, params = jaxrnn.load(saved)
    w_h = np.asarray(params.w_h).astype(dtype)
    other = rewritten(saved, change_arrays=lambda arrays: arrays | {"w_h": w_h})
    with pytest.raises(ValueError, match=f"w_h has dtype {w_h.dtype}, expected floating"):
        jaxrnn.load(other)
    with pytest.raises(TypeError, match=r"LSTM: params\.w_h has dtype .*, expected floating numbe"):
        jaxrnn.save(saved, cell, params._replace(w_h=w_h))


def test_a_stack_of_a_thousand_layers_comes_back(tmp_path):
    one = jaxrnn.Elman(2, w_x_init="zeros", w_h_init="zeros")  # of which many are drawn fast
    cell = jaxrnn.Stack.repeat(one, 1000)
    params = (one.init(jax.random.key(0), 2),) * 1000
    jaxrnn.save(tmp_path / "cell", cell, params)
    assert bits(jaxrnn.load(tmp_path / "cell")) == bits((cell, params))


def test_what_load_would_refuse_is_not_saved(saved):
    before, cell = saved.read_bytes(), jaxrnn.Elman(2)
    for _ in range(65):
        cell = jaxrnn.Reversed(cell)
    with pytest.raises(ValueError, match=r"save: Reversed is too large to load, .* has 68"):
        jaxrnn.save(saved, cell, cell.init(jax.random.key(0), 2))
    assert saved.read_bytes() == before


def test_arrays_in_the_order_of_fortran_come_back(saved):
    cell, params = jaxrnn.load(saved)
    jaxrnn.save(saved, cell, params._replace(w_x=np.asfortranarray(params.w_x)))
    assert bits(jaxrnn.load(saved)) == bits((cell, params))


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, "[]", "3", "{}", "not JSON"])
def test_other_json_is_refused(saved, text):
    saved.write_bytes(safetensors.numpy.save({"w": np.ones(3)}, {"jaxrnn": text}))
    with pytest.raises(ValueError, match="holds no cell that can be read"):
        jaxrnn.load(saved)


def test_a_cell_is_what_a_file_holds(saved):
    activation = {"class": "HardSigmoid", "slope": 0.2, "offset": 0.5}
    with pytest.raises(ValueError, match="it describes a HardSigmoid, which is not a cell"):
        jaxrnn.load(rewritten(saved, lambda content: content | {"cell": activation}))


def test_equal_cells_give_equal_files(saved):
    first = saved.read_bytes()
    jaxrnn.save(saved, *jaxrnn.load(saved))
    assert saved.read_bytes() == first


def test_missing_files_are_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        jaxrnn.load(tmp_path / "none")


def test_functions_are_refused_by_name(tmp_path):
    cell = jaxrnn.Stack((jaxrnn.LSTM(4), jaxrnn.LSTM(4, candidate_activation=jnp.sin)))
    with pytest.raises(
        ValueError,
        match=r"save: Stack\.cells\[1\]\.candidate_activation is .*, which a file cannot hold; use",
    ):
        jaxrnn.save(tmp_path / "cell", cell, cell.init(jax.random.key(0), 3))
    assert not list(tmp_path.iterdir())


def test_parameters_of_others_are_refused(tmp_path):
    params = jaxrnn.GRU(5).init(jax.random.key(0), 3)
    with pytest.raises(TypeError, match=r"save\(path, cell, params\): cell must be .* GRUParams"):
        jaxrnn.save(jaxrnn.GRU(5), params, tmp_path / "cell")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"which GRU\.init makes for no in_features"):
        jaxrnn.save(tmp_path / "cell", jaxrnn.GRU(4), params)


@pytest.mark.parametrize("fails", ["fsync", "replace", "write"])
def test_a_save_that_dies_leaves_the_old_file(saved, fails):
    before = saved.read_bytes()
    where = {"fsync": (os, "fsync"), "replace": (Path, "replace"), "write": (Path, "open")}[fails]
    with (
        mock.patch.object(*where, side_effect=OSError("disk full")),
        pytest.raises(OSError, match="disk full"),
    ):
        jaxrnn.save(saved, jaxrnn.GRU(4), jaxrnn.GRU(4).init(jax.random.key(0), 3))
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


@dataclasses.dataclass(frozen=True)
class Derived(jaxrnn.Elman):
    """A cell with a field that its constructor computes, and one that is a dict."""

    table: dict[str, int] = dataclasses.field(default_factory=dict, hash=False, kw_only=True)
    twice: int = dataclasses.field(init=False, default=0)

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "twice", 2 * self.hidden)


def test_a_computed_field_and_a_dict_come_back(tmp_path):
    cell = Derived(4, table={"a": 1})
    jaxrnn.save(tmp_path / "cell", cell, cell.init(jax.random.key(0), 3))
    again, _ = jaxrnn.load(tmp_path / "cell", known=[Derived])
    assert (again, again.twice) == (cell, 8)  # type: ignore[attr-defined]
