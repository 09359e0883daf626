"""The agent of `examples/ppo.py` as people write it in Flax today: the `ScannedRNN` of PureJaxRL
around Flax's `GRUCell`.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

import jaxrnn
from ppo import Agent, AgentParams, Decision, Linear


class ScannedRNN(nn.Module):
    """A GRU over time, restarted by `where` before a step that begins an episode."""

    hidden: int

    @functools.partial(
        nn.scan, variable_broadcast="params", in_axes=0, out_axes=0, split_rngs={"params": False}
    )
    @nn.compact
    def __call__(self, carry: Array, x: tuple[Array, Array]) -> tuple[Array, Array]:
        """One step, which `nn.scan` makes many."""
        inputs, resets = x
        cell = nn.GRUCell(self.hidden)
        fresh = cell.initialize_carry(jax.random.key(0), inputs.shape)
        return cell(jnp.where(resets[:, None], fresh, carry), inputs)


class ActorCriticRNN(nn.Module):
    """Encoder, memory, and two heads."""

    hidden: int
    encoding: int
    actions: int

    @nn.compact
    def __call__(self, carry: Array, observations: Array, first: Array) -> tuple[Array, Decision]:
        """Observations `[time, envs, features]` and flags `[time, envs]`."""
        x = nn.relu(nn.Dense(self.encoding, name="encoder")(observations))
        carry, y = ScannedRNN(self.hidden, name="rnn")(carry, (x, first))
        logits, value = nn.Dense(self.actions, name="policy")(y), nn.Dense(1, name="value")(y)
        return carry, Decision(logits, value[..., 0])


@dataclasses.dataclass(frozen=True)
class FlaxAgent:
    """The network with the methods of `ppo.Agent`."""

    network: ActorCriticRNN
    features: int

    def init(self, key: Array) -> Any:
        """Draw the parameters."""
        observations, first = jnp.zeros((1, 1, self.features)), jnp.zeros((1, 1), bool)
        return self.network.init(key, self.initial_carry(None, 1), observations, first)

    def initial_carry(self, params: Any, envs: int) -> Array:
        """Zeros."""
        del params
        return jnp.zeros((envs, self.network.hidden))

    def step(
        self, params: Any, carry: Array, observation: Array, first: Array
    ) -> tuple[Array, Decision]:
        """Act: a sequence of one step."""
        carry, decision = self._apply(params, carry, observation[None], first[None])
        return carry, jax.tree.map(lambda leaf: leaf[0], decision)

    def scan(self, params: Any, carry: Array, observations: Array, first: Array) -> Decision:
        """Learn."""
        return self._apply(params, carry, observations, first)[1]

    def _apply(
        self, params: Any, carry: Array, observations: Array, first: Array
    ) -> tuple[Array, Decision]:
        return self.network.apply(params, carry, observations, first)  # pyright: ignore[reportReturnType]  # no variables are mutable


def flax_twin(agent: Agent, params: AgentParams) -> tuple[FlaxAgent, Any]:
    """The Flax agent that computes the same as one with a `jaxrnn.GRU`, and its parameters; or
    gradients, laid out like them.
    """
    if not isinstance(agent.cell, jaxrnn.GRU):
        raise TypeError(f"flax_twin: the agent's cell is {agent.cell}, expected a jaxrnn.GRU")

    def dense(linear: Linear) -> dict[str, Array]:
        return {"kernel": linear.w, "bias": linear.b}

    cell = jaxrnn.convert.to_flax(agent.cell, params.cell, "linen.GRUCell")["params"]
    network = ActorCriticRNN(agent.cell.hidden, agent.encoding, agent.actions)
    layers = {
        "encoder": dense(params.encoder),
        "policy": dense(params.policy),
        "value": dense(params.value),
    }
    return FlaxAgent(network, agent.features), {"params": {**layers, "rnn": {"GRUCell_0": cell}}}
