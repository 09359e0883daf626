"""A streaming step with its weights in one file, which JAX runs without the code of the model.

`jax.export.deserialize(data).call(carry, ids)` runs it. The file holds StableHLO, which other
runtimes read, too. The carry is a list of arrays, so that the reader needs no class of jaxrnn.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

import jaxrnn

Step = Callable[[Any, jax.Array], tuple[Any, jax.Array]]


def export_step(step: Step, carry: Any, platforms: Sequence[str]) -> bytes:
    """Export a step `(carry, ids [batch]) -> (carry, logits [batch, symbols])` for any batch size.

    Args:
        step: the step, with its weights.
        carry: a carry for a batch of one. Only its shapes and dtypes matter.
        platforms: the platforms to compile for, such as "cpu" and "cuda".
    """
    (batch,) = export.symbolic_shape("batch")
    leaves, form = jax.tree.flatten(carry)

    def flat(carry: list[jax.Array], ids: jax.Array) -> tuple[list[jax.Array], jax.Array]:
        after, logits = step(jax.tree.unflatten(form, carry), ids)
        return jax.tree.leaves(after), logits

    given = [jax.ShapeDtypeStruct((batch, *leaf.shape[1:]), leaf.dtype) for leaf in leaves]
    ids = jax.ShapeDtypeStruct((batch,), jnp.int32)
    return bytes(export.export(jax.jit(flat), platforms=platforms)(given, ids).serialize())


def generate_exported(data: bytes, prompts: jax.Array, length: int) -> jax.Array:
    """Continue prompts `[time, batch]` with an exported step, from a carry of zeros.

    The shapes of the carry are those in the file.
    """
    step = export.deserialize(bytearray(data))
    *carry, _ = step.in_avals
    start = [jnp.zeros((prompts.shape[1], *leaf.shape[1:]), leaf.dtype) for leaf in carry]

    def read(params: None, carry: Any, ids: Any) -> tuple[Any, Any]:
        carry, logits = step.call(carry, ids)
        return carry, logits

    return jaxrnn.generate(read, None, start, prompts, steps=length).tokens
