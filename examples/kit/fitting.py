"""The training loop of the scripts that need no other: batches, updates, a bar, a check."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

Loss = Callable[[Any, Any, jax.Array], jax.Array]
"""`loss(params, batch, key)`: a number; the key is for what is random in training, dropout say."""


def batches(arrays: Any, size: int, seed: int, axis: int) -> Iterator[Any]:
    """Some of what stands side by side along an axis, without end: all of it in a random order, and
    again in another.
    """
    count, draw = jax.tree.leaves(arrays)[0].shape[axis], np.random.default_rng(seed)
    while True:
        order = draw.permutation(count)
        for k in range(0, max(1, count - size + 1), size):
            some = order[k : k + size]
            yield jax.tree.map(partial(np.take, indices=some, axis=axis), arrays)


@partial(jax.jit, static_argnames=("loss", "optimizer"))
def _update(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    params: Any,
    state: Any,
    batch: Any,
    key: Any,
) -> tuple[Any, Any, jax.Array]:
    value, gradient = jax.value_and_grad(loss)(params, batch, key)
    updates, state = optimizer.update(gradient, state, params)
    return optax.apply_updates(params, updates), state, value


def fit(
    loss: Loss,
    params: Any,
    batches: Iterable[Any],
    optimizer: optax.GradientTransformation,
    steps: int,
    name: str = "",
    *,
    score: Callable[[Any], float] | None = None,
    every: int = 0,
) -> Any:
    """Parameters after so many updates, a batch each; FloatingPointError if training diverges.

    With a `score(params)`, on a validation part of the training data say, the parameters that
    scored highest: it is asked after `every` so many updates, and at the end.

    A second call with the same `loss` and `optimizer`, the same objects, compiles nothing.
    """
    state, key, recent = jax.jit(optimizer.init)(params), jax.random.key(0), []
    best, highest, shown = params, -np.inf, ""
    with tqdm(islice(batches, steps), desc=name, total=steps, unit="step") as bar:
        for number, batch in enumerate(bar):
            of_step = jax.random.fold_in(key, number)
            params, state, value = _update(loss, optimizer, params, state, batch, of_step)
            if not np.isfinite(value):
                raise FloatingPointError("training diverged: try a lower --learning-rate")
            recent = [*recent[-49:], float(value)]
            if score and (number + 1 == steps or (every and (number + 1) % every == 0)):
                now = score(params)
                shown = f", validation {now:.4f}"
                if now > highest:
                    best, highest = params, now
            bar.set_postfix_str(f"loss {np.mean(recent):.4f}{shown}", refresh=False)
    return best if score else params


def side_by_side(rates: Sequence[float]) -> optax.GradientTransformation:
    """Adam with clipping, for parameters `[rates, ...]` that know nothing of each other, each with
    a learning rate of its own.
    """
    one = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        def each(gradient: Any, state: Any, rate: jax.Array) -> tuple[Any, Any]:
            gradient, state = one.update(gradient, state)
            return jax.tree.map(lambda leaf: -rate * leaf, gradient), state

        return jax.vmap(each)(updates, state, jnp.array(rates))

    return optax.GradientTransformation(lambda params: jax.vmap(one.init)(params), update)
