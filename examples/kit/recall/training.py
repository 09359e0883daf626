"""Training with and without gradient clipping, side by side, and its record."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import trange

import jaxrnn
from jaxrnn.diagnostics import Recorder, Snapshot, snapshot
from kit.recall.task import Network, recall

HELD_OUT = 1000


class Found(NamedTuple):
    """The results of a network. An axis `[2]` is with clipping, and without."""

    recorder: Recorder  # of the run with clipping, as are the next two
    after: Snapshot  # after the last update
    params: Any
    right: np.ndarray  # [2], the accuracy on sequences that training never saw
    largest: np.ndarray  # [2], the largest norm of the gradient in training, before clipping


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two runs of one network on the same sequences, with clipping and without.

    Their parameters and the states of their optimisers have an axis `[2]` in front.
    """

    network: Network
    o: Any  # the options of `gradient_flow.py`
    optimizer: optax.GradientTransformation

    def begin(self, key: jax.Array) -> tuple[Any, Any, jax.Array]:
        """Draw the parameters; return them, the optimisers' states and the largest norms."""
        start = self.network.init(key)
        runs = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), (start, self.optimizer.init(start)))
        return (*runs, jnp.zeros(2))

    def update(self, runs: tuple, key: jax.Array, number: jax.Array) -> tuple:
        """Return what `begin` returns, after one update of both."""
        params, states, largest = runs
        bounds = jnp.array([self.o.norm, jnp.inf])
        along = jax.vmap(self._update_one, in_axes=(0, 0, 0, None, None))
        params, states, norms = along(params, states, bounds, *self._batch(key, number))
        return params, states, jnp.fmax(largest, norms)

    def look(self, params: Any, key: jax.Array, number: jax.Array) -> Snapshot:
        """Measure the run with clipping on the sequences of an update."""
        xs, symbols = self._batch(key, number)
        own = jax.tree.map(lambda leaf: leaf[0], params)

        def loss(_: Any, ys: jax.Array) -> jax.Array:
            return self.network.loss(own, ys, symbols)

        return snapshot(loss, self.network.cell, own["rnn"], self.network.inputs(xs))

    def right(self, params: Any, key: jax.Array) -> jax.Array:
        """Return which of `HELD_OUT` sequences each run gets right, `[2, HELD_OUT]`."""
        xs, symbols = recall(key, self.o.length, HELD_OUT)
        logits = jax.vmap(lambda p: self.network.logits(p, self._outputs(p, xs)))(params)
        return jnp.argmax(logits, axis=-1) == symbols

    def _batch(self, key: jax.Array, number: jax.Array) -> tuple[jax.Array, jax.Array]:
        return recall(jax.random.fold_in(key, number), self.o.length, self.o.batch)

    def _outputs(self, params: Any, xs: jax.Array) -> jax.Array:
        return jaxrnn.scan(self.network.cell, params["rnn"], self.network.inputs(xs))[1]

    def _update_one(self, params: Any, state: Any, bound: Any, xs: Any, symbols: Any) -> tuple:
        """Return the parameters and the state of one run, and the norm before clipping."""

        def loss(params: Any) -> jax.Array:
            return self.network.loss(params, self._outputs(params, xs), symbols)

        gradient = jax.grad(loss)(params)
        norm = optax.tree.norm(gradient)
        clipped = jax.tree.map(lambda leaf: leaf * jnp.minimum(1, bound / norm), gradient)
        updates, state = self.optimizer.update(clipped, state, params)
        return optax.apply_updates(params, updates), state, norm


def train(network: Network, o: Any, name: str) -> Found:
    """Train a network twice on the same sequences, with and without clipping.

    Args:
        network: the network.
        o: the options of `gradient_flow.py`. A snapshot is taken every `o.every` updates.
        name: the name of the network in the progress bar.
    """
    pair = Pair(network, o, optax.adam(o.rate))
    update, right = jax.jit(pair.update, donate_argnums=0), jax.jit(pair.right)
    of_network, of_training, of_test = jax.random.split(jax.random.key(o.seed), 3)
    runs, recorder = jax.jit(pair.begin)(of_network), Recorder(pair.look, o.every)
    for number in trange(o.steps, desc=name, unit="update"):
        recorder(number, runs[0], of_training, number)
        runs = update(runs, of_training, number)
    params, _, largest = jax.device_get(runs)
    return Found(
        recorder,
        jax.device_get(recorder.look(params, of_training, o.steps)),
        jax.tree.map(lambda leaf: leaf[0], params),
        np.mean(np.asarray(right(params, of_test)), axis=1),
        largest,
    )
