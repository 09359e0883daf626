"""The one list over which every property runs: a cell, and the equations that it must give."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference as ref
import user_cells as user

import jaxrnn
from jaxrnn import GRU, LSTM, Bidirectional, Elman, Stack
from jaxrnn.initializers import Chrono, Identity


def features(rng: np.random.Generator, steps: tuple[int, ...], size: int) -> Any:
    """Inputs `[time, *batch, features]`."""
    return rng.normal(size=(*steps, size))


def timed(rng: np.random.Generator, steps: tuple[int, ...], size: int) -> Any:
    """Inputs with the time since the last one."""
    return user.Timed(rng.normal(size=(*steps, size)), rng.uniform(0.1, 2.0, size=steps))


def rings(rng: np.random.Generator, steps: tuple[int, ...], size: int) -> Any:
    """Inputs with two feature axes."""
    return rng.normal(size=(*steps, 5, size))


@dataclasses.dataclass(frozen=True)
class Spec:
    """One entry: a cell, its reference, and how its inputs are drawn."""

    id: str
    cell: jaxrnn.Cell
    reference: ref.Reference
    inputs: Callable[..., Any] = features
    lawful: bool = True  # whether `step` keeps the law of `affine`
    in_features: int = 3

    @property
    def causal(self) -> bool:
        """As the cell says."""
        return self.cell.causal


def concat(a: Any, b: Any) -> Any:
    """The usual merge."""
    return np.concatenate([a, b], axis=-1)


ELMAN, IRNN, AFTER, BEFORE = ref.elman(np.tanh), ref.elman(ref.relu), ref.gru("after"), ref.gru("before")
BOTH = ref.BothWays(AFTER, AFTER, concat)

SPECS = [
    Spec("elman_tanh", Elman(4), ELMAN),
    Spec("elman_relu", Elman(4, activation="relu"), ref.elman(ref.relu)),
    Spec("elman_irnn", Elman(4, activation="relu", w_h_init=Identity()), IRNN),
    Spec("elman_no_bias", Elman(4, bias=False), ELMAN),
    Spec("lstm", LSTM(4), ref.LSTM),
    Spec("lstm_no_bias", LSTM(4, bias=False), ref.LSTM),
    Spec("lstm_chrono", LSTM(5, forget_bias=Chrono(20)), ref.LSTM),
    Spec("gru_after", GRU(4), AFTER),
    Spec("gru_after_no_bias", GRU(4, bias=False), AFTER),
    Spec("gru_before", GRU(4, reset="before"), BEFORE),
    Spec("gru_before_no_bias", GRU(4, reset="before", bias=False), BEFORE),
    Spec("stack", Stack((LSTM(4), GRU(5))), ref.Layers((ref.LSTM, AFTER))),
    Spec("stack_of_one", Stack((LSTM(4),)), ref.Layers((ref.LSTM,))),
    Spec("both_concat", Bidirectional(GRU(4)), BOTH),
    Spec("both_sum", Bidirectional(Elman(4), merge="sum"), ref.BothWays(ELMAN, ELMAN, lambda a, b: a + b)),
    Spec("both_mean", Bidirectional(Elman(4), merge="mean"), ref.BothWays(ELMAN, ELMAN, lambda a, b: 0.5 * a + 0.5 * b)),
    Spec("both_product", Bidirectional(Elman(4), merge="product"), ref.BothWays(ELMAN, ELMAN, lambda a, b: a * b)),
    Spec("both_pair", Bidirectional(Elman(4), merge=None), ref.BothWays(ELMAN, ELMAN, lambda a, b: (a, b))),
    Spec("both_unlike", Bidirectional(LSTM(4), Elman(5)), ref.BothWays(ref.LSTM, ELMAN, concat)),
    Spec("stack_with_both", Stack((Bidirectional(GRU(4)), LSTM(4))), ref.Layers((BOTH, ref.LSTM))),
    Spec(
        "nested",
        Stack((Stack((Elman(4),)), Bidirectional(Bidirectional(Elman(3)), Stack((GRU(2),))))),
        ref.Layers((ref.Layers((ELMAN,)), ref.BothWays(ref.BothWays(ELMAN, ELMAN, concat), ref.Layers((AFTER,)), concat))),
    ),
    Spec("user_decaying", user.Decaying(4), user.DECAYING, timed),
    Spec("user_deep_transition", user.DeepTransition(4), user.DEEP_TRANSITION),
    Spec("user_highway", user.Highway(4), user.HIGHWAY),
    Spec("user_clockwork", user.Clockwork(4), user.CLOCKWORK),
    Spec("user_ring", user.Ring(4), user.RING, rings),
    Spec("user_in_stack", Stack((user.Decaying(4), user.Clockwork(3))), ref.Layers((user.DECAYING, user.CLOCKWORK)), timed),
    Spec("user_fast_weights", user.FastWeights(4), user.FAST_WEIGHTS, lawful=False),
    Spec("user_rematerialised", user.Rematerialised(4), user.REMATERIALISED, lawful=False),
]

BY_ID = {spec.id: spec for spec in SPECS}


def over(specs: list[Spec]) -> pytest.MarkDecorator:
    """Run a test for each of these."""
    expected = pytest.mark.filterwarnings("ignore:.*scan uses JAX's own derivative:UserWarning")
    return pytest.mark.parametrize("spec", [pytest.param(s, id=s.id, marks=[] if s.lawful else [expected]) for s in specs])


every = over(SPECS)
every_causal = over([spec for spec in SPECS if spec.causal])
every_other = over([spec for spec in SPECS if not spec.causal])


def some(*ids: str) -> pytest.MarkDecorator:
    """Run a test for the entries of these names, where every entry would take too long."""
    return over([BY_ID[id] for id in ids])
