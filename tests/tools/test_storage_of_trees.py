"""Files of any pytree with metadata: what was saved comes back, nothing else is taken for it."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy

import jaxrnn
from jaxrnn import storage
from jaxrnn.initializers import Chrono
from tests.tools.test_storage import bits


@dataclasses.dataclass(frozen=True)
class Tagger:
    rnn: jaxrnn.Cell
    words: int = 5

    def init(self, key):
        return {"embedding": jax.random.normal(key, (self.words, 3)), "rnn": self.rnn.init(key, 3)}


TAGGER = Tagger(jaxrnn.Stack([jaxrnn.LSTM(4, forget_bias=Chrono(20)), jaxrnn.GRU(2)]))


def make_tagger(model):
    return model.init(jax.random.key(0))


@pytest.fixture
def tagger(tmp_path: Path) -> Path:
    storage.save_tree(tmp_path / "tagger", make_tagger(TAGGER), TAGGER)
    return tmp_path / "tagger"


def test_a_model_of_several_parts_comes_back(tagger):
    params, model = storage.load_tree(tagger, make_tagger, known=[Tagger])
    assert model == TAGGER
    assert bits(params) == bits(make_tagger(TAGGER))
    before = tagger.read_bytes()
    storage.save_tree(tagger, params, model)
    assert tagger.read_bytes() == before


@pytest.mark.parametrize("exact", [True, False])
def test_any_pytree_comes_back(tmp_path, exact):
    optimizer = optax.adam(1e-3).init(make_tagger(TAGGER))
    tree = {"state": (optimizer, [jnp.int8(3), None]), "flags": np.array([True, False])}
    metadata = {
        "rows": ({"step": 1, "loss": 0.5}, {"step": 2, "loss": float("inf")}),
        "cell": jaxrnn.LSTM(4),
        "none": None,
        "name": "ü\n",
    }
    storage.save_tree(tmp_path / "tree", tree, metadata)
    like = tree if exact else jax.eval_shape(lambda: jax.tree.map(jnp.asarray, tree))
    again, told = storage.load_tree(tmp_path / "tree", like)
    assert bits(again) == bits(tree)
    assert told == metadata


def test_one_array_and_nothing_else_comes_back(tmp_path):
    storage.save_tree(tmp_path / "tree", jnp.arange(3))
    assert bits(storage.load_tree(tmp_path / "tree", jnp.zeros(3, int))) == bits(
        (jnp.arange(3), None)
    )
    storage.save_tree(tmp_path / "tree", np.arange(3, dtype=">i4"))
    assert storage.load_tree(tmp_path / "tree", jnp.zeros(3, int))[0].tolist() == [0, 1, 2]


class CallableTree(dict):
    def __call__(self):
        raise AssertionError("it is a tree")


jax.tree_util.register_pytree_node(
    CallableTree,
    lambda tree: (tuple(tree.values()), tuple(tree)),
    lambda names, leaves: CallableTree(zip(names, leaves, strict=True)),
)


def test_a_pytree_that_can_be_called_is_a_tree(tmp_path):
    tree = CallableTree(w=jnp.ones(3))
    storage.save_tree(tmp_path / "tree", tree)
    assert bits(storage.load_tree(tmp_path / "tree", tree)[0]) == bits(tree)


@pytest.mark.parametrize(
    ("like", "known", "message"),
    [
        (make_tagger, [], "it has a 'Tagger', expected a class of jaxrnn; pass .* known="),
        ({"w": jnp.ones(3)}, [Tagger], "it lacks the array w of `like`"),
        ({}, [Tagger], "it holds an array embedding, which `like` does not have"),
        (
            lambda model: make_tagger(dataclasses.replace(model, words=6)),
            [Tagger],
            r"its array embedding has shape \(5, 3\), expected \(6, 3\)",
        ),
        (
            lambda model: make_tagger(model) | {"embedding": jnp.ones((5, 3), int)},
            [Tagger],
            "its array embedding has dtype float32, expected integers",
        ),
        (lambda model: model.nothing, [Tagger], "has no attribute 'nothing'"),
    ],
)
def test_trees_that_do_not_fit_are_refused(tagger, like, known, message):
    with pytest.raises(ValueError, match=f"{tagger} holds no pytree that can be read: .*{message}"):
        storage.load_tree(tagger, like, known)


def test_the_two_kinds_of_files_are_told_apart(tmp_path, tagger):
    saved = tmp_path / "cell"
    jaxrnn.save(saved, jaxrnn.GRU(4), jaxrnn.GRU(4).init(jax.random.key(0), 3))
    with pytest.raises(ValueError, match=r"holds no cell .*save_tree wrote it; use .*\.load_tree$"):
        jaxrnn.load(tagger)
    with pytest.raises(ValueError, match=r"holds no pytree .*\.save wrote it; use jaxrnn\.load$"):
        storage.load_tree(saved, make_tagger)


def test_trees_of_others_are_refused(tmp_path):
    (tmp_path / "tree").write_bytes(safetensors.numpy.save({"w": np.ones(3)}))
    with pytest.raises(ValueError, match=r"jaxrnn\.storage\.save_tree did not write it"):
        storage.load_tree(tmp_path / "tree", np.ones(3))
    with pytest.raises(FileNotFoundError):
        storage.load_tree(tmp_path / "none", np.ones(3))


def test_a_tree_with_a_changed_byte_is_refused(tagger):
    whole = tagger.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), 100):
        changed = bytearray(whole)
        changed[place] ^= 1
        tagger.write_bytes(bytes(changed))
        with pytest.raises(ValueError, match=str(tagger)):
            storage.load_tree(tagger, make_tagger, known=[Tagger])


@pytest.mark.parametrize(
    ("tree", "metadata", "error", "message"),
    [
        ({"a": 3}, None, TypeError, "a is of type int, expected an array; put numbers into meta"),
        (
            jax.random.key(0),
            None,
            TypeError,
            "the tree is of type PRNGKeyArray, .* jax.random.key_data",
        ),
        ({"a": "x"}, None, TypeError, "a is of type str, expected an array"),
        ({"a": np.array("x")}, None, TypeError, "a has dtype <U1, which a file cannot hold; "),
        ({"a": np.ones(1, complex)}, None, TypeError, "a has dtype complex128, .* cast it"),
        ({"a": jnp.ones(1, jnp.float8_e5m2)}, None, TypeError, "a has dtype float8_e5m2, which"),
        ({"__metadata__": np.ones(1)}, None, ValueError, "has the name __metadata__, .* rename"),
        (
            {"a.b": np.ones(1), "a": {"b": np.ones(1)}},
            None,
            ValueError,
            r"two arrays of a tree have the same path, one of \['a\.b'\]",
        ),
        ({}, {"f": jnp.sin}, ValueError, r"save_tree: metadata\['f'\] is .*, which a file cannot"),
        ({}, [1], ValueError, r"save_tree: metadata is \[1\], which a file cannot hold"),
        ({}, {1: 2}, ValueError, r"save_tree: metadata has the keys \[1\], expected strings"),
        ({}, {"class": 2}, ValueError, r"has the keys \['class'\], expected strings other than"),
        ({}, "x" * 1_000_001, ValueError, "save_tree: metadata is too large to load, for its"),
    ],
)
def test_what_no_file_can_hold_is_not_saved(tmp_path, tree, metadata, error, message):
    with pytest.raises(error, match=message):
        storage.save_tree(tmp_path / "tree", tree, metadata)
    assert not list(tmp_path.iterdir())
