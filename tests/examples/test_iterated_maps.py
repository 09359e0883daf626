"""What `iterated_maps.py` measures: exponents of the quadratic map, and the memory of one unit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

for needed in ("matplotlib", "tqdm", "tyro"):
    pytest.importorskip(needed)

import iterated_maps
from jaxrnn.diagnostics import map_cycles


def test_exponents_of_the_quadratic_map(x64: None) -> None:
    """log |slope| of the sink, half of it for a cycle of two, and log 2 for r = 4."""
    rs = np.array([2.8, 3.3, 4.0])
    exponents, ends = iterated_maps.spectrum(iterated_maps.Options(steps=4000), rs)
    cycle = 4 + 2 * 3.3 - 3.3**2
    np.testing.assert_allclose(exponents[:2], [np.log(0.8), np.log(-cycle) / 2], rtol=1e-6)
    assert exponents[2] == pytest.approx(np.log(2), abs=0.02)
    assert ends.shape == (100, 3)
    np.testing.assert_allclose(ends[:, 0], 1 - 1 / 2.8, rtol=1e-9)


def test_a_pulse_and_noise() -> None:
    xs, signs = iterated_maps.pulses(0, 500, 20, noise=0.3)
    assert np.array_equal(xs[:, 0, 0], signs)
    assert set(signs) == {-1.0, 1.0}
    assert np.std(xs[:, 1:]) == pytest.approx(0.3, rel=0.05)


def test_one_unit_learns_to_hold_a_sign() -> None:
    o = iterated_maps.Options(updates=300)
    networks = iterated_maps.train(o)
    kinds, right = {}, {}
    xs, signs = iterated_maps.pulses(1, 400, 200, o.noise)
    for name, params in networks.items():
        step = iterated_maps.unit(params)
        expected = jnp.tanh(params.w_h[0, 0] * 0.3 + params.b[0])
        assert step(jnp.asarray(0.3)) == pytest.approx(float(expected), rel=1e-6)
        kinds[name] = [cycle.kind for cycle in map_cycles(step, -1.3, 1.3)]
        right[name] = np.mean(np.sign(iterated_maps.answers(params, xs)[-1]) == signs)
    assert kinds["before training"] == ["sink"]
    assert kinds["after training"] == ["sink", "source", "sink"]
    assert right["before training"] < 0.6 < 0.95 < right["after training"]


def test_rates_beyond_four_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        iterated_maps.main(["--rates", "1", "2", "3", "4.1"])
    assert "--rates must be at most 4" in capsys.readouterr().err
    assert not jax.config.jax_enable_x64  # type: ignore[attr-defined]
