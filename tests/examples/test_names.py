"""`examples/names.py`: its data, its conditioned cell, and both models on a few names."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

for needed in ("matplotlib", "optax", "safetensors", "tqdm", "tyro"):
    pytest.importorskip(needed)

import jax

import jaxrnn
import names
from jaxrnn.testing import check_cell
from kit import surnames
from kit.conditioned import LabelConditionedGRU
from kit.surnames import COUNTRIES, LETTERS, Pair
from names import Options


@pytest.fixture(scope="module")
def known() -> surnames.Surnames:
    try:
        return surnames.load()
    except ValueError as missing:
        pytest.skip(str(missing))


def test_names_are_read_from_the_files(known):
    assert len(known) == 16877
    assert known["Nováková"] == [COUNTRIES.index("Czechia"), COUNTRIES.index("Slovakia")]
    assert {letter for name in known for letter in name} == set(LETTERS)
    assert {k for countries in known.values() for k in countries} == set(range(len(COUNTRIES)))


def test_relatives_stay_together(known):
    train, choose, held_out = surnames.split(known)
    parts = [{pair.name for pair in part} for part in (train, choose, held_out)]
    assert set.union(*parts) == known.keys()
    assert sum(map(len, parts)) == len(known)
    beginnings = [{name.lower()[:5] for name in part if name.isascii()} for part in parts]
    assert not beginnings[0] & beginnings[2]
    assert len(train) == sum(len(known[name]) for name in parts[0])
    assert len(held_out) == len(parts[2])


def test_one_country_of_a_name_is_enough():
    known = {"Adam": [1, 2], "Berg": [3]}
    pairs = [Pair("Adam", 1), Pair("Berg", 3)]
    assert surnames.right(known, pairs, [2, 3]) == 1
    assert surnames.right(known, pairs, [3, 3]) == 0.5


def test_the_conditioned_cell_keeps_the_contract():
    draw = lambda key, batch: jax.random.randint(key, batch, 0, 3)  # noqa: E731
    check_cell(LabelConditionedGRU(jaxrnn.GRU(4), labels=3), context=draw)


def test_the_label_shifts_the_gates():
    cell = LabelConditionedGRU(jaxrnn.GRU(4), labels=2)
    params = cell.init(jax.random.key(0), 3)
    shifts = jax.random.normal(jax.random.key(1), params.w_c.shape)
    xs = jax.random.normal(jax.random.key(2), (5, 2, 3))
    _, ys = jaxrnn.scan(cell, params._replace(w_c=shifts), xs, context=np.array([1, 0]))
    b = params.gru.b
    assert b is not None
    for row, label in enumerate((1, 0)):
        gru = params.gru._replace(b=b + shifts[label])
        _, alone = jaxrnn.scan(cell.gru, gru, xs[:, row])
        np.testing.assert_allclose(ys[:, row], alone, atol=1e-6)


def test_the_probabilities_of_all_names_of_two_letters_and_the_others_add_up_to_one(monkeypatch):
    """Of one letter, of two letters, and of more, which is what is left."""
    monkeypatch.setattr(names, "SYMBOLS", "\nab")
    monkeypatch.setattr(names, "one_hot", lambda ids: jax.nn.one_hot(ids, 3))
    cell = jaxrnn.Readout(LabelConditionedGRU(jaxrnn.GRU(4), 2), 3)
    params = cell.init(jax.random.key(3), 3)
    every = ["", "a", "b", "aa", "ab", "ba", "bb"]
    ended = np.exp(-names.each(names.nats, cell, params, [Pair(name, 1) for name in every]))
    begun = 0.0  # names that go on after two letters
    scan = jax.jit(partial(jaxrnn.scan, cell))
    for name in every[3:]:
        read = np.eye(3, dtype=np.float32)[[0, *names.encode(Pair(name, 1))[:2, 0]]]
        p = softmax(scan(params, read, context=np.array(1))[1], axis=-1)
        ids = names.encode(Pair(name, 1))[:, 0]
        begun += p[0, ids[0]] * p[1, ids[1]] * (1 - p[2, 0])
    assert ended.sum() + begun == pytest.approx(1, abs=1e-5)


def test_padding_changes_neither_model():
    rows = names.encode(Pair("Adam", 3))[:, None]
    longer = np.pad(rows, ((0, 3), (0, 0), (0, 0)), constant_values=2)
    writer = jaxrnn.Readout(LabelConditionedGRU(jaxrnn.GRU(4), 20), len(names.SYMBOLS))
    reader = jaxrnn.Stack([jaxrnn.Bidirectional(jaxrnn.GRU(4)), jaxrnn.Dense(20)])
    for function, cell in ((names.nats, writer), (names.judge, reader)):
        params = jax.jit(cell.init, static_argnums=1)(jax.random.key(0), len(names.SYMBOLS))
        run = jax.jit(partial(function, cell))
        short, long = (run(params, xs, np.array([5])) for xs in (rows, longer))
        np.testing.assert_allclose(short, long, rtol=1e-5)


def test_both_are_trained_and_used(known, tmp_path: Path, monkeypatch, capsys):
    pytest.importorskip("sklearn")
    monkeypatch.setattr(names, "BATCH", 32)
    monkeypatch.setattr(names, "LIMITS", (21,))
    some = [name for name, k in known.items() if k[0] in (10, 15)][::6]  # Irish and Polish
    monkeypatch.setattr(surnames, "load", lambda most: {name: known[name] for name in some})
    names.main(["--hidden", "16", "--epochs", "8", "--out", str(tmp_path)])
    said = capsys.readouterr().out
    shares = [float(share) for share in re.findall(r"([\d.]+)%", said)]
    bits = [float(number) for number in re.findall(r" (\d\.\d\d)\n", said)]
    assert shares[2] > shares[0]
    assert bits[2] < bits[0]
    assert (tmp_path / "names.png").read_bytes().startswith(b"\x89PNG")
    names.main(["--names", "Ó Ceallaigh", "Kowalski", "--out", str(tmp_path)])
    irish, polish = capsys.readouterr().out.splitlines()
    assert irish.split()[2] == "Ireland"
    assert polish.split()[1] == "Poland"
    names.main(["--country", "Poland", "--count", "3", "--out", str(tmp_path)])
    invented = capsys.readouterr().out.splitlines()
    assert len(invented) == 3
    assert all(set(name) <= set(LETTERS) for name in invented)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--country", "Narnia"], "--country Narnia is not one of Croatia, "),
        (["--names", "Adam"], "reader.safetensors: No such file or directory"),
        (["--temperature", "0"], "--temperature must be positive"),
    ],
)
def test_mistakes_are_one_line(argv, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        names.main([*argv, "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert re.fullmatch(f"error: [^\n]*{said}[^\n]*\n", capsys.readouterr().err)


def test_other_letters_are_refused():
    with pytest.raises(ValueError, match="cannot read 'Петров': no name in training has a 'П'"):
        names.encode(Pair("Петров", 0))


def test_options_are_checked():
    with pytest.raises(ValueError, match="--count must be at least 1"):
        Options(count=0)
