"""A training loop without a carry between updates: batches, updates, a progress bar, a check."""

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
"""`loss(params, batch, key)` returns a number. The key is for random numbers, as of dropout."""


def batches(arrays: Any, size: int, seed: int, axis: int) -> Iterator[Any]:
    """Yield random batches along an axis without end, epoch after epoch.

    Each epoch has another order. What does not fill a batch is left out of the epoch. If there are
    fewer than `size` examples, a batch has all of them.
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
    """Return the parameters and the optimiser's state after an update, and the loss before it."""
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
    """Train parameters.

    A second call with the same objects `loss` and `optimizer` compiles nothing.

    Args:
        loss: the loss of a batch.
        params: the parameters to start from.
        batches: the batches, one for each update.
        optimizer: the optimiser.
        steps: the number of updates.
        name: the name in the progress bar.
        score: the score of parameters, such as their accuracy in validation. It is computed after
            every `every` updates, if `every` is not 0, and after the last one.
        every: see `score`.

    Returns:
        The parameters with the highest score, or the last ones without a `score`.

    Raises:
        FloatingPointError: the loss of a batch is not finite.
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
    """Make Adam with clipping for independent models side by side, parameters `[rates, ...]`.

    Each model has a learning rate of its own, and its gradient is clipped by itself.
    """
    one = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        def each(gradient: Any, state: Any, rate: jax.Array) -> tuple[Any, Any]:
            gradient, state = one.update(gradient, state)
            return jax.tree.map(lambda leaf: -rate * leaf, gradient), state

        return jax.vmap(each)(updates, state, jnp.array(rates))

    return optax.GradientTransformation(lambda params: jax.vmap(one.init)(params), update)
