"""Training with and without gradient clipping, side by side, and its record."""

from functools import partial
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


def train(network: Network, o: Any, name: str) -> Found:
    """Train a network twice on the same sequences, with and without clipping.

    Args:
        network: the network.
        o: the options of `gradient_flow.py`. A snapshot is taken every `o.every` updates.
        name: the name of the network in the progress bar.
    """
    adam, key = optax.adam(o.rate), jax.random.key(o.seed)
    of_network, of_training, of_test = jax.random.split(key, 3)

    def outputs(params: Any, xs: jax.Array) -> jax.Array:
        return jaxrnn.scan(network.cell, params["rnn"], network.inputs(xs))[1]

    def batch(number: jax.Array) -> tuple[jax.Array, jax.Array]:
        return recall(jax.random.fold_in(of_training, number), o.length, o.batch)

    def update(params: Any, state: Any, bound: jax.Array, xs: Any, symbols: Any) -> tuple:
        gradient = jax.grad(lambda p: network.loss(p, outputs(p, xs), symbols))(params)
        norm = optax.tree.norm(gradient)
        clipped = jax.tree.map(lambda leaf: leaf * jnp.minimum(1, bound / norm), gradient)
        updates, state = adam.update(clipped, state, params)
        return optax.apply_updates(params, updates), state, norm

    @jax.jit
    def begin(key: jax.Array) -> tuple:
        start = network.init(key)
        runs = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), (start, adam.init(start)))
        return (*runs, jnp.zeros(2))

    @partial(jax.jit, donate_argnums=0)
    def both(runs: tuple, number: jax.Array) -> tuple:
        params, state, largest = runs
        bounds = jnp.array([o.norm, jnp.inf])
        along = jax.vmap(update, in_axes=(0, 0, 0, None, None))
        params, state, norm = along(params, state, bounds, *batch(number))
        return params, state, jnp.fmax(largest, norm)

    def look(params: Any, number: jax.Array) -> Snapshot:
        xs, symbols = batch(number)
        own = jax.tree.map(lambda leaf: leaf[0], params)

        def loss(_: Any, ys: jax.Array) -> jax.Array:
            return network.loss(own, ys, symbols)

        return snapshot(loss, network.cell, own["rnn"], network.inputs(xs))

    @jax.jit
    def right(params: Any, key: jax.Array) -> jax.Array:
        xs, symbols = recall(key, o.length, HELD_OUT)
        answers = jax.vmap(lambda p: jnp.argmax(network.logits(p, outputs(p, xs)), axis=-1))
        return answers(params) == symbols

    runs, recorder = begin(of_network), Recorder(look, o.every)
    for number in trange(o.steps, desc=name, unit="update"):
        recorder(number, runs[0], number)
        runs = both(runs, number)
    params, _, largest = jax.device_get(runs)
    return Found(
        recorder,
        jax.device_get(recorder.look(params, o.steps)),
        jax.tree.map(lambda leaf: leaf[0], params),
        np.mean(np.asarray(right(params, of_test)), axis=1),
        largest,
    )
