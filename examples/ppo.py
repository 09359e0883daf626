"""Proximal policy optimisation (Schulman et al. 2017) for agents with a memory.

Each update acts for some steps in many environments at once, then learns from these sequences. A
memory changes four things:

* A rollout keeps the carries with which it began, and learning starts from them.
* Every observation is stored with a flag that says whether it is the first of an episode. Acting
  and learning both use this flag.
* Minibatches consist of whole sequences, not of single steps.
* Advantages end where episodes end.
"""

import dataclasses
import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

import jaxrnn
from kit.environments import Environment, Outcome


class Decision(NamedTuple):
    """What an agent makes of an observation."""

    logits: Array  # [..., actions]
    value: Array  # [...]


class ActorCritic(Protocol):
    """What can be trained: an `Agent`, or an agent of another library."""

    def init(self, key: Array) -> Any: ...
    def initial_carry(self, params: Any, envs: int) -> Any: ...
    def step(
        self, params: Any, carry: Any, observation: Array, first: Array
    ) -> tuple[Any, Decision]: ...
    def scan(self, params: Any, carry: Any, observations: Array, first: Array) -> Decision: ...


class Situation(NamedTuple):
    """Where acting stands, in every environment."""

    state: Any  # of the environment
    first: Array  # [envs], whether its observation is the first of an episode
    carry: Any  # of the agent, after the observation before


class Step(NamedTuple):
    """One step in every environment; with a time axis before, those of a rollout."""

    observation: Array
    first: Array
    action: Array
    log_prob: Array
    value: Array
    outcome: Outcome


class Rollout(NamedTuple):
    """What acting leaves to learn from."""

    carry: Any  # [envs, ...], before the first step
    steps: Step  # [time, envs]
    last_value: Array  # [envs], of the situation after the last step


class Sequences(NamedTuple):
    """What is learned from: one sequence per environment."""

    carry: Any  # [envs, ...], before the first step
    steps: Step  # [time, envs]
    advantage: Array  # [time, envs]

    def of(self, envs: Array) -> "Sequences":
        """Those of some environments."""
        carry = jax.tree.map(lambda leaf: leaf[envs], self.carry)
        return Sequences(carry, *jax.tree.map(lambda leaf: leaf[:, envs], self[1:]))


class Training(NamedTuple):
    """What an update changes."""

    params: Any
    optimizer: Any
    situation: Situation
    key: Array


class Report(NamedTuple):
    """What came of one update."""

    scored: Array  # how many steps showed whether the agent remembers
    successes: Array  # how many of these were right
    loss: Array  # the mean over its minibatches


@dataclasses.dataclass(frozen=True)
class PPO:
    """The algorithm, for one agent in one environment."""

    env: Environment
    agent: ActorCritic
    updates: int
    envs: int = 64  # a multiple of `minibatches`
    horizon: int = 64  # steps in each environment per update
    epochs: int = 4
    minibatches: int = 4
    learning_rate: float = 2e-3  # Adam's at first; it falls to zero
    gae_lambda: float = 0.95
    clip: float = 0.2
    value_weight: float = 0.5
    entropy_weight: float = 0.01
    max_norm: float = 0.5

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Clip by the global norm, then Adam."""
        rate = optax.linear_schedule(
            self.learning_rate, 0.0, self.updates * self.epochs * self.minibatches
        )
        return optax.chain(optax.clip_by_global_norm(self.max_norm), optax.adam(rate, eps=1e-5))

    def init(self, key: Array) -> Training:
        """Fresh parameters, and an episode begun in every environment."""
        key, k_params, k_env = jax.random.split(key, 3)
        params = self.agent.init(k_params)
        return Training(params, self.optimizer.init(params), self.begin(params, k_env), key)

    def begin(self, params: Any, key: Array) -> Situation:
        """The beginning of an episode in every environment."""
        states = jax.vmap(self.env.reset)(jax.random.split(key, self.envs))
        return Situation(
            states, jnp.ones(self.envs, bool), self.agent.initial_carry(params, self.envs)
        )

    def update(self, training: Training) -> tuple[Training, Report]:
        """Act, then learn from it."""
        params, optimizer, situation, key = training
        key, k_act, k_learn = jax.random.split(key, 3)
        situation, rollout = self.act(params, situation, k_act)
        params, optimizer, loss = self.learn(params, optimizer, rollout, k_learn)
        outcome = rollout.steps.outcome
        return Training(params, optimizer, situation, key), Report(
            outcome.scored.sum(), outcome.success.sum(), loss
        )

    def act(self, params: Any, situation: Situation, key: Array) -> tuple[Situation, Rollout]:
        """Take `horizon` steps in every environment."""

        def step(situation: Situation, key: Array) -> tuple[Situation, Step]:
            state, first, carry = situation
            k_action, k_env = jax.random.split(key)
            observation = jax.vmap(self.env.observe)(state)
            carry, decision = self.agent.step(params, carry, observation, first)
            action = jax.random.categorical(k_action, decision.logits)
            state, outcome = jax.vmap(self.env.step)(
                jax.random.split(k_env, self.envs), state, action
            )
            taken = Step(
                observation,
                first,
                action,
                log_probability(decision.logits, action),
                decision.value,
                outcome,
            )
            return Situation(state, outcome.done, carry), taken

        after, steps = lax.scan(step, situation, jax.random.split(key, self.horizon))
        _, decision = self.agent.step(
            params, after.carry, jax.vmap(self.env.observe)(after.state), after.first
        )
        return after, Rollout(situation.carry, steps, decision.value)

    def learn(
        self, params: Any, optimizer: Any, rollout: Rollout, key: Array
    ) -> tuple[Any, Any, Array]:
        """Several passes over a rollout, in minibatches of whole sequences: new parameters and
        optimiser, and the mean loss.
        """
        sequences = self.sequences(rollout)

        def minibatch(state: tuple[Any, Any], envs: Array) -> tuple[tuple[Any, Any], Array]:
            params, optimizer = state
            loss, gradient = jax.value_and_grad(self.loss)(params, sequences.of(envs))
            updates, optimizer = self.optimizer.update(gradient, optimizer, params)
            return (optax.apply_updates(params, updates), optimizer), loss

        orders = jax.vmap(lambda key: jax.random.permutation(key, self.envs))(
            jax.random.split(key, self.epochs)
        )
        batches = orders.reshape(self.epochs * self.minibatches, -1)
        (params, optimizer), losses = lax.scan(minibatch, (params, optimizer), batches)
        return params, optimizer, losses.mean()

    def sequences(self, rollout: Rollout) -> Sequences:
        """A rollout with its advantages."""
        outcome, value = rollout.steps.outcome, rollout.steps.value
        advantage = advantages(
            outcome.reward,
            value,
            outcome.done,
            rollout.last_value,
            self.env.discount,
            self.gae_lambda,
        )
        return Sequences(rollout.carry, rollout.steps, advantage)

    def loss(self, params: Any, sequences: Sequences) -> Array:
        """The clipped surrogate, the value's squared error, and a bonus for entropy."""
        carry, steps, advantage = sequences
        decision = self.agent.scan(params, carry, steps.observation, steps.first)
        ratio = jnp.exp(log_probability(decision.logits, steps.action) - steps.log_prob)
        normal = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        surrogate = jnp.minimum(
            ratio * normal, jnp.clip(ratio, 1 - self.clip, 1 + self.clip) * normal
        ).mean()
        error = jnp.square(decision.value - (steps.value + advantage)).mean()
        log_probs = jax.nn.log_softmax(decision.logits)
        entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
        return -surrogate + self.value_weight * error / 2 - self.entropy_weight * entropy

    def success_rate(self, params: Any, key: Array) -> Array:
        """How often the agent succeeds in fresh episodes, over at least four times the longest one
        in every environment.
        """
        k_env, k_act = jax.random.split(key)

        def rollout(situation: Situation, key: Array) -> tuple[Situation, Outcome]:
            situation, rollout = self.act(params, situation, key)
            return situation, rollout.steps.outcome

        keys = jax.random.split(k_act, math.ceil(4 * self.env.longest / self.horizon))
        _, outcome = lax.scan(rollout, self.begin(params, k_env), keys)
        return outcome.success.sum() / outcome.scored.sum()


def advantages(
    rewards: Array,
    values: Array,
    done: Array,
    last_value: Array,
    discount: float,
    gae_lambda: float,
) -> Array:
    """Generalised advantage estimation (Schulman et al. 2016), `[time, envs]`: nothing flows back
    out of the next episode.

        δ_t = r_t + γ v_{t+1} - v_t,    A_t = δ_t + γλ A_{t+1},

    where v_{t+1} = A_{t+1} = 0 if step t ends an episode.
    """

    def backwards(
        later: tuple[Array, Array], step: tuple[Array, Array, Array]
    ) -> tuple[tuple[Array, Array], Array]:
        next_advantage, next_value = later
        reward, value, done = step
        error = reward + discount * jnp.where(done, 0.0, next_value) - value
        advantage = error + discount * gae_lambda * jnp.where(done, 0.0, next_advantage)
        return (advantage, value), advantage

    start = (jnp.zeros_like(last_value), last_value)
    return lax.scan(backwards, start, (rewards, values, done), reverse=True)[1]


def log_probability(logits: Array, action: Array) -> Array:
    """Of an action, under a policy's logits."""
    return -optax.softmax_cross_entropy_with_integer_labels(logits, action)


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
