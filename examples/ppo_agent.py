"""An agent that remembers: a jaxrnn cell between an encoder of observations and two heads, for the
policy and for the value.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

import jaxrnn


class Linear(NamedTuple):
    """An affine map."""

    w: Array
    b: Array

    @classmethod
    def init(cls, key: Array, in_features: int, out_features: int, scale: float) -> "Linear":
        """Orthogonal weights, zero bias."""
        return cls(
            jaxrnn.initializers.Orthogonal(scale)(key, (in_features, out_features)),
            jnp.zeros(out_features),
        )

    def __call__(self, x: Array) -> Array:
        return x @ self.w + self.b


class AgentParams(NamedTuple):
    """Parameters of `Agent`."""

    encoder: Linear
    cell: Any
    policy: Linear
    value: Linear


class Decision(NamedTuple):
    """What an agent makes of an observation."""

    logits: Array  # [..., actions]
    value: Array  # [...]


@dataclasses.dataclass(frozen=True)
class Agent:
    """Acts by `step` and learns by `scan`; both are told which observations are the `first` of an
    episode, and remember nothing then.

    The flag belongs to the observation beside it. An environment's `done` belongs to the action
    before: whoever passes that one resets a step too early."""

    cell: jaxrnn.Cell
    features: int
    actions: int
    encoding: int = 64

    def init(self, key: Array) -> AgentParams:
        """Draw the parameters; the policy's are small, so that it begins with all actions equally
        likely.
        """
        k_encoder, k_cell, k_policy, k_value = jax.random.split(key, 4)
        return AgentParams(
            encoder=Linear.init(k_encoder, self.features, self.encoding, scale=2**0.5),
            cell=self.cell.init(k_cell, self.encoding),
            policy=Linear.init(k_policy, self.cell.out_features, self.actions, scale=0.01),
            value=Linear.init(k_value, self.cell.out_features, 1, scale=1.0),
        )

    def initial_carry(self, params: AgentParams, envs: int) -> Any:
        """The memory at the beginning of an episode, in so many environments."""
        return self.cell.initial_carry(params.cell, (envs, self.encoding))

    def step(
        self, params: AgentParams, carry: Any, observation: Array, first: Array
    ) -> tuple[Any, Decision]:
        """Act: observations `[envs, features]` and flags `[envs]` of one step."""
        fresh = self.initial_carry(params, len(first))
        carry = jax.tree.map(lambda new, old: jnp.where(first[:, None], new, old), fresh, carry)
        carry, y = jaxrnn.step(self.cell, params.cell, carry, self._encode(params, observation))
        return carry, self._decide(params, y)

    def scan(self, params: AgentParams, carry: Any, observations: Array, first: Array) -> Decision:
        """The same for observations `[time, envs, features]` and flags `[time, envs]`, to learn
        from.
        """
        _, ys = jaxrnn.scan(
            self.cell, params.cell, self._encode(params, observations), carry, reset=first
        )
        return self._decide(params, ys)

    def _encode(self, params: AgentParams, observations: Array) -> Array:
        return jax.nn.relu(params.encoder(observations))

    def _decide(self, params: AgentParams, y: Array) -> Decision:
        return Decision(params.policy(y), params.value(y)[..., 0])


@dataclasses.dataclass(frozen=True)
class Memoryless(jaxrnn.Cell):
    """A layer without a memory, `y_t = tanh(x_t W + b)`, as a cell with an empty carry."""

    hidden: int

    def init(self, key: Array, in_features: int, dtype: Any = jnp.float32) -> Linear:
        """Draw the parameters."""
        del dtype
        return Linear.init(key, in_features, self.hidden, scale=1.0)

    def initial_carry(self, params: Linear, input_shape: tuple[int, ...]) -> tuple[()]:
        """Nothing."""
        del params, input_shape
        return ()

    def project(self, params: Linear, xs: Array) -> Array:
        """All of it, for it does not need the carry."""
        return jnp.tanh(params(xs))

    def step(
        self, params: Linear, carry: tuple[()], u: Array, affine: Any = jaxrnn.affine
    ) -> tuple[tuple[()], Array]:
        """Nothing is left to do."""
        del params, affine
        return carry, u

    @property
    def out_features(self) -> int:
        """`hidden`."""
        return self.hidden
