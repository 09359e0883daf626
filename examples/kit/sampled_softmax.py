"""The loss of a softmax over many symbols from some of them."""

import jax
import jax.numpy as jnp


def sampled_nats(
    vectors: jax.Array,
    b: jax.Array,
    ys: jax.Array,
    targets: jax.Array,
    key: jax.Array,
    *,
    common: int,
    sample: int,
) -> jax.Array:
    """What the targets `[*batch]` take, about `-log softmax(ys @ vectors.T + b)`; of symbols that
    are numbered from the commonest on.

    All of the `common` first symbols are in the sum of the softmax, as is the target; of the rare
    ones, as many as `sample` are drawn, each of which stands for its share of them.
    """
    rare = len(b) - common
    drawn = jax.random.randint(key, (sample,), common, len(b))
    own = jnp.sum(ys * vectors[targets], axis=-1) + b[targets]
    certain = ys @ vectors[:common].T + b[:common]
    others = ys @ vectors[drawn].T + b[drawn] + jnp.log(rare / sample)
    others = jnp.where(drawn == targets[..., None], -jnp.inf, others)  # it is in the sum already
    mine = jnp.where(targets < common, -jnp.inf, own)[..., None]
    logits = jnp.concatenate([certain, others, mine], axis=-1)
    return jax.nn.logsumexp(logits, axis=-1) - own
