"""Pictures show the numbers that they were given, on the axes that they were given."""

import subprocess
import sys
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure

from jaxrnn.diagnostics import JacobianFlow, Saturation
from jaxrnn.diagnostics.pictures import (
    flow_curves,
    flow_map,
    gates_over_text,
    saturated_units,
    singular_values,
)


def test_matplotlib_is_not_imported_before_a_picture_is_drawn() -> None:
    code = "import sys, jaxrnn.diagnostics.pictures; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_curves() -> None:
    given = Figure().subplots()
    axes = flow_curves({"a": [4.0, 2.0, 0.0], "b": jnp.ones(3)}, axes=given)
    assert axes is given
    assert axes.get_yscale() == "log"
    a, b = axes.lines
    np.testing.assert_array_equal(a.get_ydata(), [4, 2, np.nan])  # zero has no logarithm
    np.testing.assert_array_equal(b.get_ydata(), np.ones(3))
    assert a.get_color() != b.get_color()
    texts = axes.get_legend().get_texts()  # type: ignore[union-attr]
    assert [text.get_text() for text in texts] == ["a", "b"]
    assert flow_curves([1.0, 0.5]).get_legend() is None
    with pytest.raises(ValueError, match=r"norms has shape \(3, 2\), expected \[time \+ 1\]"):
        flow_curves(np.ones((3, 2)))


def test_a_map_has_a_cell_around_each_look() -> None:
    norms = np.array([[1.0, 0.5, 0.0], [1.0, np.nan, 0.9]])
    axes = flow_map(norms, steps=[0, 100])
    (mesh,) = axes.collections
    shown: Any = mesh.get_array()
    assert shown.shape == (3, 2)
    np.testing.assert_allclose(shown[:, 0], [1, 0.5, 0.1])  # the scale ends at a tenth at least
    (mesh,) = flow_map(norms * [1, 1, 1e-12], steps=[0, 100]).collections
    np.testing.assert_allclose(mesh.get_clim(), [1e-8, 1])
    assert np.isnan(shown.filled(np.nan)[1, 1])
    assert mesh.get_coordinates()[0, :, 0].tolist() == [-50, 50, 150]  # type: ignore[attr-defined]
    assert flow_map(norms[:1], steps=[7]).get_xlim() == (6.5, 7.5)
    with pytest.raises(ValueError, match="norms has 2 looks, but steps has 3"):
        flow_map(norms, steps=[0, 1, 2])
    with pytest.raises(ValueError, match="expected at least one look"):
        flow_map(np.ones((0, 3)), steps=[])


def test_singular_values_end_where_rounding_begins() -> None:
    logs = np.log(10) * np.array([[[-2.0, -20.0]], [[-1.0, -3.0]], [[0.0, 0.0]]])  # to the end
    flow = JacobianFlow(jnp.zeros(3), jnp.zeros(3), jnp.asarray(logs, jnp.float32))
    first, second = (np.array(line.get_ydata()) for line in singular_values(flow).lines[:2])
    np.testing.assert_allclose(first, [0, -1, -2], rtol=1e-6)
    np.testing.assert_allclose(second, [0, -3, np.nan], rtol=1e-6)
    with pytest.raises(ValueError, match="singular_values=True"):
        singular_values(flow._replace(log_singular_values=None))


def test_gates_over_a_text() -> None:
    given = Figure().subplots()
    axes = gates_over_text("a b\n", {"f": [0, 0.5, 1, np.nan], "i": jnp.ones(4)}, axes=given)
    assert axes is given
    (image,) = axes.images
    shown: Any = image.get_array()
    np.testing.assert_array_equal(shown[0, :3], [0, 0.5, 1])
    assert image.get_clim() == (0, 1)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "␣", "b", "↵"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["f", "i"]
    with pytest.raises(ValueError, match=r"'f' has shape \(3,\), expected one value for each of 2"):
        gates_over_text("ab", {"f": [0, 0, 0]})
    with pytest.raises(ValueError, match="expected one at least"):
        gates_over_text("ab", {})


def test_saturated_units() -> None:
    found = Saturation((jnp.array([0.2, 0.4]),), (jnp.array([0.1, 0.6]),))
    (dots,) = saturated_units(found, ["f"]).collections
    np.testing.assert_allclose(np.array(dots.get_offsets()), [[0.2, 0.1], [0.4, 0.6]], rtol=1e-6)
    with pytest.raises(ValueError, match="names has 2 entries, expected one for each of 1 gates"):
        saturated_units(found, ["f", "i"])
