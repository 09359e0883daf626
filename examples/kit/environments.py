"""Environments in JAX that nobody solves without a memory.

An environment is a frozen dataclass of pure functions of one environment; `jax.vmap` makes many.
`step` restarts an episode that ends, so that the state after the last step of one episode is that
before the first step of the next."""

import dataclasses
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

State = Any


class Outcome(NamedTuple):
    """What an action led to."""

    reward: Array
    done: Array  # it was the last of its episode
    scored: Array  # it was one that remembering decides
    success: Array  # it was scored, and right


class Environment(ABC):
    """A task in episodes, of which remembering decides the success."""

    features: int
    """The size of an observation."""
    actions: int
    """How many actions there are."""
    chance: float
    """The rate of success without a memory."""
    discount: float
    """γ: how much of a reward counts one step earlier."""

    @property
    @abstractmethod
    def longest(self) -> int:
        """How many steps an episode can take."""

    @abstractmethod
    def reset(self, key: Array) -> State:
        """The state in which an episode begins."""

    @abstractmethod
    def observe(self, state: State) -> Array:
        """What the agent sees, `[features]`."""

    @abstractmethod
    def advance(self, key: Array, state: State, action: Array) -> tuple[State, Outcome]:
        """Act within an episode."""

    def step(self, key: Array, state: State, action: Array) -> tuple[State, Outcome]:
        """Act, and begin a new episode if this one is over."""
        after, outcome = self.advance(key, state, action)  # one key for both, of which one counts
        return jax.tree.map(
            lambda new, old: jnp.where(outcome.done, new, old), self.reset(key), after
        ), outcome


NORTH, EAST, SOUTH, WEST = range(4)


class TMazeState(NamedTuple):
    """Where the agent stands, and what it was told."""

    goal: Array  # the action that is right at the junction, NORTH or SOUTH
    position: Array  # 0 is the start, `length` the junction
    time: Array


@dataclasses.dataclass(frozen=True)
class TMaze(Environment):
    """A corridor with a junction at its end; a sign at the start, seen nowhere else, says where to
    turn (Bakker 2002).

    Observations, actions and rewards are the paper's: three bits are 011 or 110 at the start, 101
    in the corridor, 010 at the junction; the right turn there gives 4, the wrong one -0.1, and so
    does every step that leads into a wall. A turn ends the episode. So does, other than in the
    paper, the time limit, which counts as failure."""

    length: int = 20
    """Steps from the start to the junction."""
    patience: int = 5
    """The time limit, in times the shortest way."""
    features: ClassVar[int] = 3
    actions: ClassVar[int] = 4
    chance: ClassVar[float] = 1 / 2
    discount: ClassVar[float] = 0.99

    @property
    def longest(self) -> int:
        """The time limit."""
        return self.patience * (self.length + 1)

    def reset(self, key: Array) -> TMazeState:
        """At the start, with a new sign."""
        return TMazeState(
            jnp.where(jax.random.bernoulli(key), NORTH, SOUTH), jnp.int32(0), jnp.int32(0)
        )

    def observe(self, state: TMazeState) -> Array:
        """The sign at the start, then the corridor, then the junction."""
        sign = jnp.where(
            state.goal == NORTH, jnp.array([0.0, 1.0, 1.0]), jnp.array([1.0, 1.0, 0.0])
        )
        beyond = jnp.where(
            state.position == self.length, jnp.array([0.0, 1.0, 0.0]), jnp.array([1.0, 0.0, 1.0])
        )
        return jnp.where(state.position == 0, sign, beyond)

    def advance(self, key: Array, state: TMazeState, action: Array) -> tuple[TMazeState, Outcome]:
        """Walk, turn, or bump."""
        del key
        move = jnp.where(action == EAST, 1, jnp.where(action == WEST, -1, 0))
        position = jnp.clip(state.position + move, 0, self.length)
        turned = (state.position == self.length) & (move == 0)
        success = turned & (action == state.goal)
        reward = jnp.where(success, 4.0, jnp.where(position == state.position, -0.1, 0.0))
        after = TMazeState(state.goal, position, state.time + 1)
        done = turned | (after.time == self.longest)
        return after, Outcome(reward, done, scored=done, success=success)


class RepeatPreviousState(NamedTuple):
    """The last symbols, the newest first."""

    symbols: Array  # [lag + 1]
    time: Array


@dataclasses.dataclass(frozen=True)
class RepeatPrevious(Environment):
    """A new symbol at every step; the right action is the one that was shown `lag` steps ago (Morad
    et al. 2023).
    """

    lag: int = 4
    """How many steps ago."""
    episode: int = 32
    """Steps in an episode, more than `lag`."""
    features: ClassVar[int] = 4  # one-hot
    actions: ClassVar[int] = 4  # one for each symbol
    chance: ClassVar[float] = 1 / 4
    discount: ClassVar[float] = 0.5  # an answer is paid at once: what follows is noise

    @property
    def longest(self) -> int:
        """Every episode takes as long."""
        return self.episode

    def reset(self, key: Array) -> RepeatPreviousState:
        """A first symbol, and none before it."""
        return RepeatPreviousState(self._show(key, jnp.full(self.lag + 1, -1)), jnp.int32(0))

    def observe(self, state: RepeatPreviousState) -> Array:
        """The newest symbol."""
        return jax.nn.one_hot(state.symbols[0], self.features)

    def advance(
        self, key: Array, state: RepeatPreviousState, action: Array
    ) -> tuple[RepeatPreviousState, Outcome]:
        """Answer, and be shown the next symbol."""
        scored = state.time >= self.lag
        success = scored & (action == state.symbols[-1])
        after = RepeatPreviousState(self._show(key, state.symbols), state.time + 1)
        return after, Outcome(
            success.astype(jnp.float32), after.time == self.episode, scored, success
        )

    def _show(self, key: Array, symbols: Array) -> Array:
        return jnp.concatenate([jax.random.randint(key, (1,), 0, self.actions), symbols[:-1]])
