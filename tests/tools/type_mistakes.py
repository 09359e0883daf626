# pyright: reportUnnecessaryTypeIgnoreComment=error
"""What a type checker refuses in a user's script. `make lint` checks this file: it fails where a
comment says that a line is refused, and it is not. Nothing here is run.
"""

import jax
import jax.numpy as jnp

import jaxrnn


def mistakes() -> None:
    cell = jaxrnn.LSTM(4)
    params = cell.init(jax.random.key(0), 3)
    xs = jnp.ones((7, 2, 3))
    carry, ys = jaxrnn.scan(cell, params, xs)
    print(carry.c, carry.h, ys.shape)  # these are fine
    carry.x  # pyright: ignore[reportAttributeAccessIssue]  # noqa: B018
    params.w  # pyright: ignore[reportAttributeAccessIssue]  # noqa: B018
    jaxrnn.scan(cell, carry, xs)  # pyright: ignore[reportArgumentType]
    jaxrnn.scan(cell, params, xs, params)  # pyright: ignore[reportArgumentType]
    jaxrnn.step(cell, carry, params, xs[0])  # pyright: ignore[reportArgumentType]
    jaxrnn.scan(cell, params, xs, length=7)  # pyright: ignore[reportCallIssue]
    jaxrnn.scan(cell, params, xs, method="btpt")  # pyright: ignore[reportArgumentType]
    jaxrnn.LSTM(4, "lecun_normal")  # pyright: ignore[reportCallIssue]
    state, _ = jaxrnn.scan(jaxrnn.GRU(4), jaxrnn.GRU(4).init(jax.random.key(0), 3), xs)
    state.h  # pyright: ignore[reportAttributeAccessIssue]  # noqa: B018
