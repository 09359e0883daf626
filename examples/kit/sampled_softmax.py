"""The loss of a softmax over many symbols, estimated from a sample of them."""

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
    """Estimate the cross-entropies `[*batch]` of targets, `-log softmax(ys @ vectors.T + b)`.

    The sum of the softmax has the `common` first symbols, the target, and a random sample of the
    other symbols. Each drawn symbol stands for an equal share of the others.

    Args:
        vectors: the output vectors of the symbols `[symbols, features]`, the commonest first.
        b: the biases of the symbols `[symbols]`.
        ys: the features `[*batch, features]`.
        targets: the target symbols `[*batch]`.
        key: the key of the sample.
        common: how many symbols are always in the sum.
        sample: how many of the others are drawn, with replacement.
    """
    rare = len(b) - common
    drawn = jax.random.randint(key, (sample,), common, len(b))
    own = jnp.sum(ys * vectors[targets], axis=-1) + b[targets]
    certain = ys @ vectors[:common].T + b[:common]
    others = ys @ vectors[drawn].T + b[drawn] + jnp.log(rare / sample)
    # The target is in the sum already.
    others = jnp.where(drawn == targets[..., None], -jnp.inf, others)
    mine = jnp.where(targets < common, -jnp.inf, own)[..., None]
    logits = jnp.concatenate([certain, others, mine], axis=-1)
    return jax.nn.logsumexp(logits, axis=-1) - own
