"""Spectral radii and norms against NumPy's eigenvalues and singular values."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn.constraints import SpectralNorm
from jaxrnn.diagnostics import spectral_radii
from tests.support.helpers import assert_close, make_params
from tests.support.specs import Spec, every


def elman(w: Any) -> Any:
    return jaxrnn.Elman(len(w)).init(jax.random.key(0), 1)._replace(w_h=jnp.asarray(w))


def largest(w: np.ndarray) -> float:
    return float(np.max(np.abs(np.linalg.eigvals(w))))


ANGLE = np.array([[0.6, -0.8], [0.8, 0.6]])

MATRICES = {
    "random": np.random.default_rng(0).normal(size=(5, 5)),
    "complex_pair": 3 * ANGLE,
    "not_normal": np.array([[0.5, 1e3], [0.0, 0.5]]),
    "defective": np.eye(4) + np.eye(4, k=1),
    "nilpotent": np.eye(4, k=1),
    "zero": np.zeros((3, 3)),
    "huge": 1e200 * ANGLE,
    "tiny": 1e-150 * ANGLE,
}
TRUE_RADII = {
    "complex_pair": 3,
    "not_normal": 0.5,
    "defective": 1,
    "nilpotent": 0,
    "zero": 0,
    "huge": 1e200,
    "tiny": 1e-150,
}


@pytest.mark.parametrize("name", list(MATRICES))
def test_matrices(name: str, x64: None) -> None:
    """To 1e-4: NumPy itself does not find the radius of a defective matrix closer."""
    w = MATRICES[name]
    (found,) = spectral_radii(jaxrnn.Elman(len(w)), elman(w)).values()
    radius = TRUE_RADII.get(name, largest(w))
    assert float(found.radius[0]) == pytest.approx(radius, rel=1e-4, abs=1e-300)
    if name not in ("huge", "tiny"):  # whose square is beyond float64
        assert float(found.norm[0]) == pytest.approx(np.linalg.norm(w, 2), rel=1e-5, abs=1e-300)


def test_an_orthogonal_weight_in_float32() -> None:
    found = jax.jit(spectral_radii)(
        cell := jaxrnn.GRU(24), cell.init(jax.random.key(0), in_features=3)
    )
    np.testing.assert_allclose(found["w_h"].radius, np.ones(3), rtol=1e-5)
    np.testing.assert_allclose(found["w_h"].norm, np.ones(3), rtol=1e-5)


@every
def test_every_square_recurrent_weight_is_found(spec: Spec, x64: None) -> None:
    """Under the place that its label has; that of each cell's gates by itself."""
    params = make_params(spec)
    labelled = jax.tree_util.tree_leaves_with_path(spec.cell.labels(params))
    leaves = dict(zip(map(_place, labelled), jax.tree.leaves(params), strict=True))
    roles = {_place(pair): pair[1] for pair in labelled}
    found = jax.tree.map(np.asarray, jax.jit(spectral_radii)(spec.cell, params))
    for name, spectrum in found.items():
        w = np.asarray(leaves[name])
        assert roles[name] == "recurrent"
        assert np.all(spectrum.radius <= spectrum.norm * (1 + 1e-5))
        if w.shape[1] == len(spectrum.radius) * len(w):  # else there is a projection
            each = np.split(w, len(spectrum.radius), axis=1)
            assert_close(spectrum.radius, np.array([largest(gate) for gate in each]), 1e-4)
            assert_close(spectrum.norm, np.array([np.linalg.norm(gate, 2) for gate in each]), 1e-4)
    left_out = {name for name, role in roles.items() if role == "recurrent"} - set(found)
    # the weights of pictures, and of what Jordan's cells feed back
    jordan = spec.id.startswith("jordan") or spec.id == "stack_repeated"
    assert all(leaves[name].ndim > 2 for name in left_out) or jordan


def _place(pair: tuple[Any, Any]) -> str:
    return jax.tree_util.keystr(pair[0], simple=True, separator=".")


def test_what_a_step_multiplies_by(x64: None) -> None:
    """The constrained weight, deep inside; with a projection, the way from memory to memory."""
    lstm = jaxrnn.LSTM(5, projection=3)
    bounded = jaxrnn.Constrained(jaxrnn.Residual(jaxrnn.GRU(3)), SpectralNorm(0.5))
    cell = jaxrnn.Stack([lstm, bounded])
    params = cell.init(jax.random.key(0), in_features=3, dtype=jnp.float64)
    found = spectral_radii(cell, params)
    w_h, w_r = (np.asarray(w) for w in (params[0].w_h, params[0].w_r))
    gates = [w_r @ w for w in np.split(w_h, 4, axis=1)]
    assert_close(found["0.w_h"].radius, np.array([largest(gate) for gate in gates]), 1e-5)
    assert_close(found["0.w_h"].norm, np.array([np.linalg.norm(gate, 2) for gate in gates]), 1e-5)
    np.testing.assert_allclose(found["1.w_h"].norm, np.full(3, 0.5), rtol=1e-4)


def test_layers_of_pictures_without_padding() -> None:
    """No image has to fit their kernels."""
    cell = jaxrnn.Stack([jaxrnn.ConvLSTM(2, 3, padding="valid") for _ in range(2)])
    assert spectral_radii(cell, cell.init(jax.random.key(0), in_features=3)) == {}


def test_shared_weights_and_cells_inside_attention() -> None:
    """Each place of a weight is named; each cell of a stack has gates of its own."""
    layer = jaxrnn.Elman(4)
    params = layer.init(jax.random.key(0), in_features=4)
    assert [*spectral_radii(jaxrnn.Stack([layer, layer]), (params, params))] == ["0.w_h", "1.w_h"]
    cell = jaxrnn.Attention(jaxrnn.Stack([jaxrnn.LSTM(4), jaxrnn.GRU(4)]), memory=5)
    found = spectral_radii(cell, cell.init(jax.random.key(0), in_features=3))
    shapes = {name: spectrum.radius.shape for name, spectrum in found.items()}
    assert shapes == {"inner.0.w_h": (4,), "inner.1.w_h": (3,)}


def test_a_class_is_no_cell() -> None:
    with pytest.raises(TypeError, match="spectral_radii"):
        spectral_radii(jaxrnn.LSTM, None)  # type: ignore[arg-type]
