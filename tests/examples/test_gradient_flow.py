"""`gradient_flow.py`: its task, what it trains, and what its table says."""

from typing import Any

import jax
import numpy as np
import pytest

for needed in ("matplotlib", "tqdm", "tyro"):
    pytest.importorskip(needed)

import gradient_flow as example
import jaxrnn
from kit.recall.task import SYMBOLS, Network, recall
from kit.recall.training import train
from tests.support.helpers import assert_close

draw = jax.jit(recall, static_argnums=(1, 2))
OPTIONS = example.Options(length=6, hidden=8, steps=5, batch=4, every=2, norm=1e-3)


def test_the_symbol_comes_first_and_noise_after_it() -> None:
    xs, symbols = map(np.asarray, draw(jax.random.key(0), 20, 300))
    assert xs.shape == (21, 300, SYMBOLS + 1)
    np.testing.assert_array_equal(np.argmax(xs[0, :, :SYMBOLS], axis=-1), symbols)
    assert not np.any(xs[1:, :, :SYMBOLS])
    assert np.std(xs[..., -1]) == pytest.approx(1, abs=0.05)
    assert np.all(np.abs(np.bincount(symbols) / 300 - 0.25) < 0.1)


def test_backwards_the_symbol_comes_last() -> None:
    xs: Any = np.asarray(draw(jax.random.key(0), 5, 3)[0])
    network = Network(jaxrnn.Elman(4), backwards=True)
    np.testing.assert_array_equal(network.inputs(xs)[-1], xs[0])
    assert Network(jaxrnn.Elman(4)).inputs(xs) is xs


def test_what_is_compared() -> None:
    """Small weights have the radius that they are named for, the identity is one."""
    found = example.networks(200)
    radii = {}
    for name in ("tanh, small weights", "tanh, orthogonal", "ReLU, identity (IRNN)"):
        w = np.asarray(jax.jit(found[name].init)(jax.random.key(0))["rnn"].w_h)
        radii[name] = np.max(np.abs(np.linalg.eigvals(w)))
    assert list(radii.values()) == pytest.approx([0.5, 1, 1], abs=0.06)
    lstms = (found[f"LSTM, forget bias {k}"].init for k in (0, 1))
    biases = [np.asarray(jax.jit(init)(jax.random.key(0))["rnn"].b) for init in lstms]
    assert [b[200] for b in biases] == [0, 1]


def test_clipping_is_all_that_differs() -> None:
    """The first gradient is the same; Adam is then told less of it."""
    network = Network(jaxrnn.Elman(8))
    found = train(network, OPTIONS, "a")
    assert found.recorder.steps == [0, 2, 4]
    assert found.recorder.norms().shape == (3, 8)
    assert found.right.shape == (2,)
    one = train(network, example.dataclasses.replace(OPTIONS, steps=1), "a")
    assert one.largest[0] == one.largest[1] > OPTIONS.norm
    start = jax.jit(network.init)(jax.random.split(jax.random.key(0), 3)[0])
    moved = jax.tree.map(lambda a, b: np.max(np.abs(np.subtract(a, b))), one.params, start)
    assert max(jax.tree.leaves(moved)) == pytest.approx(OPTIONS.rate, rel=1e-2)
    assert_close(one.recorder.snapshots[0], found.recorder.snapshots[0], 1e-6)


def test_the_script_runs(tmp_path, capsys, monkeypatch) -> None:
    some = {name: example.networks(8)[name] for name in example.SHOWN}
    monkeypatch.setattr(example, "networks", lambda hidden: some)
    flags = ["--length", "5", "--steps", "3", "--every", "2", "--batch", "4"]
    example.main([*flags, "--out", str(tmp_path)])
    said = capsys.readouterr().out
    lines = (tmp_path / "table.txt").read_text().splitlines()
    assert [line[:24].strip() for line in lines] == ["", *example.SHOWN]
    assert lines[1] in said
    radius, before, *_, right = lines[1][24:].split()
    assert float(radius) == pytest.approx(1, abs=0.01)  # it starts orthogonal
    assert 0 < float(before) < 1  # and with tanh, some of the gradient is lost
    assert right.endswith("%")
    recorded = (tmp_path / "recorded.txt").read_text()
    assert recorded.count("gradient 0 back") == 2
    assert "open" in recorded
    assert (tmp_path / "gradient_flow.png").stat().st_size > 10_000


def test_flags_are_checked() -> None:
    with pytest.raises(ValueError, match="--every must be at least 1, not 0"):
        example.Options(every=0)
