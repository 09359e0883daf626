"""What Keras 2 stored, of which some is read in another way, and the layers of cuDNN."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.activations import HardSigmoid
from jaxrnn.convert import from_keras
from tests.convert.test_keras import (
    ALL,
    both_ways,
    layers,
    randomised,
    run,
    run_keras,
)
from tests.support.conversions import HIDDEN, random_inputs
from tests.support.helpers import assert_close


def as_keras_2(config: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What Keras 2 wrote for the same layer."""
    old = {
        key: value
        for key, value in config["config"].items()
        if key not in ("seed", "zero_output_for_mask")
    }
    return {"class_name": config["class_name"], "config": {**old, **changes}}


def test_hard_sigmoid_of_both_generations():
    def steep(z: Any) -> Any:
        return jnp.clip(0.2 * z + 0.5, 0, 1)

    xs = random_inputs("float32")
    old, new = (
        randomised(layers.LSTM(HIDDEN, recurrent_activation=gate, **ALL))
        for gate in (steep, "hard_sigmoid")
    )
    config, weights = layers.serialize(new), new.get_weights()
    assert_close(
        run(*from_keras(as_keras_2(config, implementation=2), weights), xs),
        run_keras(old, xs),
        1e-5,
    )
    assert_close(
        run(*from_keras(as_keras_2(config), weights, version=2), xs), run_keras(old, xs), 1e-5
    )
    assert_close(
        run(*from_keras(as_keras_2(config), weights, version=3), xs), run_keras(new, xs), 1e-5
    )


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("SimpleRNN", "time_major"),
        ("SimpleRNNCell", None),
        ("LSTMCell", "implementation"),
        ("GRU", "implementation"),
    ],
)
def test_which_generation_wrote_it(name, key):
    """Every class of Keras 3 shows it, and every one of Keras 2 but a `SimpleRNNCell`."""
    theirs, ours = (
        ("activation", "activation")
        if "Simple" in name
        else ("recurrent_activation", "gate_activation")
    )
    layer = randomised(getattr(layers, name)(HIDDEN, **{theirs: "hard_sigmoid"}))
    config, weights = layers.serialize(layer), layer.get_weights()
    assert getattr(from_keras(config, weights)[0], ours) == "hard_sigmoid"
    if key:
        assert getattr(
            from_keras(as_keras_2(config, **{key: False}), weights)[0], ours
        ) == HardSigmoid(0.2)
    with pytest.raises(ValueError, match=rf"{theirs}='hard_sigmoid', of slope .* version=2 or 3"):
        from_keras(as_keras_2(config), weights)


def to_cudnn(weights: list[np.ndarray]) -> list[np.ndarray]:
    """What `CuDNNLSTM` or `CuDNNGRU` holds, by the steps of Keras 2's `_convert_rnn_weights`."""
    kernel, recurrent, bias = weights
    gates = kernel.shape[1] // len(recurrent)
    kernel = np.hstack([gate.T.reshape(gate.shape) for gate in np.hsplit(kernel, gates)])
    recurrent = np.hstack([gate.T for gate in np.hsplit(recurrent, gates)])
    if bias.ndim == 1:  # one bias of an LSTM stands for two
        part = np.random.default_rng(2).normal(size=bias.shape).astype(bias.dtype)
        bias = np.stack([part, bias - part])
    return [kernel, recurrent, bias.reshape(-1)]


def test_cudnn_layout_of_keras_own_example():
    """The one in the docstring of `_convert_rnn_weights`."""
    kernel = np.tile(np.arange(6).reshape(2, 3), 4)
    stored, *_ = to_cudnn([kernel, np.zeros((3, 12)), np.zeros(12)])
    assert stored[:, :3].tolist() == [[0, 3, 1], [4, 2, 5]]


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
@pytest.mark.parametrize("both", [False, True], ids=["forward", "both"])
def test_cudnn_weights(name, both):
    """Stored for the `CuDNN*` layer, and for the plain one that Keras could load them into."""
    layer, xs = (
        randomised(both_ways(name, "sum") if both else getattr(layers, name)(HIDDEN, **ALL)),
        random_inputs("float32"),
    )
    weights = layer.get_weights()
    stored = [array for k in range(0, len(weights), 3) for array in to_cudnn(weights[k : k + 3])]
    cudnn: Any = {
        "class_name": f"CuDNN{name}",
        "config": {"units": HIDDEN, "stateful": False, "go_backwards": False},
    }
    if both:
        cudnn = {"class_name": "Bidirectional", "config": {"layer": cudnn, "merge_mode": "sum"}}
    for config in (cudnn, layers.serialize(layer)):
        assert_close(run(*from_keras(config, stored), xs), run_keras(layer, xs), 1e-5)
