"""The one list over which every property runs: a cell, and the equations that it must give."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import jaxrnn
from jaxrnn import (
    GRU,
    LSTM,
    MGU,
    STLSTM,
    Bidirectional,
    CandidateDropout,
    ConvGRU,
    ConvLSTM,
    Dense,
    DropConnect,
    Dropout,
    Elman,
    Highway,
    Jordan,
    LearnedCarry,
    Readout,
    RecurrentDropout,
    Residual,
    Reversed,
    Stack,
    StateNoise,
    Zoneout,
)
from jaxrnn.activations import HardSigmoid
from jaxrnn.cells import Taught
from jaxrnn.initializers import Chrono, Identity
from tests.support import papers, pictures
from tests.support import reference as ref
from tests.support import user_cells as user


def features(rng: np.random.Generator, steps: tuple[int, ...], size: int) -> Any:
    """Inputs `[time, *batch, features]`."""
    return rng.normal(size=(*steps, size))


def timed(rng: np.random.Generator, steps: tuple[int, ...], size: int) -> Any:
    """Inputs with the time since the last one."""
    return user.Timed(rng.normal(size=(*steps, size)), rng.uniform(0.1, 2.0, size=steps))


def rings(rng: np.random.Generator, steps: tuple[int, ...], size: int) -> Any:
    """Inputs with two feature axes."""
    return rng.normal(size=(*steps, 5, size))


def pictures_of(*space: int) -> Callable[..., Any]:
    """Inputs with axes of space."""

    def draw(rng: np.random.Generator, steps: tuple[int, ...], size: int) -> Any:
        return rng.normal(size=(*steps, *space, size))

    return draw


def taught(rng: np.random.Generator, steps: tuple[int, ...], size: int) -> Any:
    """Inputs with the right outputs of the step before."""
    x, y = (rng.normal(size=(*steps, n)) for n in (size, 2))
    return Taught(x, y)  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class Spec:
    """One entry: a cell, its reference, and how its inputs are drawn."""

    id: str
    cell: jaxrnn.Cell
    reference: ref.Reference
    inputs: Callable[..., Any] = features
    lawful: bool = True  # whether `step` keeps the law of `affine`
    in_features: int = 3
    runs_as: str = ""  # the entry whose program differs by an initialiser or a term alone

    @property
    def causal(self) -> bool:
        """As the cell says."""
        return self.cell.causal


def concat(a: Any, b: Any) -> Any:
    """The usual merge."""
    return np.concatenate([a, b], axis=-1)


def hard_sigmoid(z: np.ndarray) -> np.ndarray:
    """The steep one of Keras 2 and ONNX."""
    return np.clip(0.2 * z + 0.5, 0, 1)


ELMAN, IRNN, AFTER, BEFORE = (
    papers.elman(np.tanh),
    papers.elman(papers.relu),
    papers.gru("after"),
    papers.gru("before"),
)
JORDAN = papers.jordan(np.tanh, lambda z: z, decay=0.5)
BOTH = ref.BothWays(AFTER, AFTER, concat)
CONV_GRU, STRIDED = pictures.conv_gru("after"), pictures.conv_gru("after", strides=2)

SPECS = [
    Spec("elman_tanh", Elman(4), ELMAN),
    Spec("elman_relu", Elman(4, activation="relu"), papers.elman(papers.relu)),
    Spec(
        "elman_irnn", Elman(4, activation="relu", w_h_init=Identity()), IRNN, runs_as="elman_relu"
    ),
    Spec("elman_no_bias", Elman(4, bias=False), ELMAN, runs_as="elman_tanh"),
    Spec(
        "jordan",
        Jordan(4, features=2, output_activation="sigmoid"),
        papers.jordan(np.tanh, papers.sigmoid),
    ),
    Spec(
        "jordan_decay",
        Jordan(4, features=2, activation="softsign", decay=0.6, bias=False),
        papers.jordan(lambda z: z / (1 + abs(z)), lambda z: z, decay=0.6),
    ),
    Spec(
        "jordan_taught",
        Jordan(4, features=2, decay=0.5, teacher=True),
        papers.jordan(np.tanh, lambda z: z, decay=0.5, taught=True),
        taught,
    ),
    Spec("lstm", LSTM(4), papers.LSTM),
    Spec("lstm_no_bias", LSTM(4, bias=False), papers.LSTM, runs_as="lstm"),
    Spec("lstm_chrono", LSTM(5, forget_bias=Chrono(20)), papers.LSTM, runs_as="lstm"),
    Spec("lstm_peepholes", LSTM(4, peepholes=True, cell_clip=0.4), papers.lstm(cell_clip=0.4)),
    Spec("lstm_projection", LSTM(4, projection=3), papers.LSTM),
    Spec("lstm_coupled", LSTM(4, coupled=True, clip=0.5), papers.lstm("fgo", clip=0.5)),
    Spec(
        "lstm_activations",
        LSTM(
            4,
            gate_activation=HardSigmoid(0.2),
            candidate_activation="softsign",
            output_activation="linear",
        ),
        papers.lstm(gate=hard_sigmoid, candidate=lambda z: z / (1 + abs(z)), output=lambda z: z),
    ),
    Spec("lstm_layer_norm", LSTM(4, layer_norm="gates", bias=False), papers.LSTM),
    Spec(
        "lstm_all",
        LSTM(
            4,
            peepholes=True,
            coupled=True,
            projection=3,
            clip=1.5,
            cell_clip=0.9,
            layer_norm="gates_and_cell",
        ),
        papers.lstm("fgo", clip=1.5, cell_clip=0.9),
    ),
    Spec("elman_layer_norm", Elman(4, layer_norm=True, clip=1.0), papers.elman(np.tanh, clip=1.0)),
    Spec("gru_after_layer_norm", GRU(4, layer_norm=True), AFTER),
    Spec(
        "gru_before_layer_norm",
        GRU(4, layer_norm=True, reset_gate="before", clip=1.0),
        papers.gru("before", clip=1.0),
    ),
    Spec(
        "gru_activations",
        GRU(4, gate_activation=HardSigmoid(0.2), candidate_activation="relu"),
        papers.gru("after", gate=hard_sigmoid, candidate=papers.relu),
    ),
    Spec("conv_lstm", ConvLSTM(2, 3), pictures.conv_lstm(), pictures_of(4, 3)),
    Spec(
        "conv_lstm_options",
        ConvLSTM(
            2,
            2,
            rank=1,
            strides=2,
            padding="valid",
            peepholes=(3,),
            coupled=True,
            layer_norm="gates_and_cell",
            candidate_activation="softsign",
        ),
        pictures.conv_lstm("fgo", lambda z: z / (1 + abs(z)), strides=2, padding="valid"),
        pictures_of(6),
    ),
    Spec(
        "conv_gru_before",
        ConvGRU(2, (3, 2), dilation=2, reset_gate="before"),
        pictures.conv_gru("before", dilation=2),
        pictures_of(3, 4),
    ),
    Spec(
        "conv_gru_after",
        ConvGRU(2, 2, rank=3, layer_norm=True),
        CONV_GRU,
        pictures_of(2, 1, 2),
    ),
    Spec(
        "pictures_in_layers",
        Stack((Bidirectional(ConvGRU(1, 3, rank=1, strides=2)), ConvLSTM(2, 1, rank=1))),
        ref.Layers((ref.BothWays(STRIDED, STRIDED, concat), pictures.conv_lstm())),
        pictures_of(3),
    ),
    Spec("st_lstm", STLSTM(2, 3, layers=2), pictures.st_lstm(2), pictures_of(2, 3)),
    Spec(
        "st_lstm_layer_norm",
        STLSTM(2, 2, layers=2, rank=1, layer_norm=True),
        pictures.st_lstm(2),
        pictures_of(3),
    ),
    Spec("mgu_paper", MGU(4), papers.mgu("paper")),
    Spec("mgu_flax", MGU(4, form="flax", forget_bias=1.0), papers.mgu("flax")),
    Spec("mgu_paper_layer_norm", MGU(4, layer_norm=True, clip=1.0), papers.mgu("paper", clip=1.0)),
    Spec(
        "mgu_flax_options",
        MGU(4, form="flax", layer_norm=True, gate_activation=HardSigmoid(0.2)),
        papers.mgu("flax", gate=hard_sigmoid),
    ),
    Spec("gru_after", GRU(4), AFTER),
    Spec("gru_after_no_bias", GRU(4, bias=False), AFTER, runs_as="gru_after"),
    Spec("gru_before", GRU(4, reset_gate="before"), BEFORE),
    Spec(
        "gru_before_no_bias", GRU(4, reset_gate="before", bias=False), BEFORE, runs_as="gru_before"
    ),
    Spec("stack", Stack((LSTM(4), GRU(5))), ref.Layers((papers.LSTM, AFTER))),
    Spec("stack_of_one", Stack((LSTM(4),)), ref.Layers((papers.LSTM,)), runs_as="stack"),
    Spec("both_concat", Bidirectional(GRU(4)), BOTH),
    Spec(
        "both_sum",
        Bidirectional(Elman(4), merge="sum"),
        ref.BothWays(ELMAN, ELMAN, lambda a, b: a + b),
    ),
    Spec(
        "both_mean",
        Bidirectional(Elman(4), merge="mean"),
        ref.BothWays(ELMAN, ELMAN, lambda a, b: 0.5 * a + 0.5 * b),
        runs_as="both_sum",
    ),
    Spec(
        "both_product",
        Bidirectional(Elman(4), merge="product"),
        ref.BothWays(ELMAN, ELMAN, lambda a, b: a * b),
    ),
    Spec(
        "both_pair",
        Bidirectional(Elman(4), merge=None),
        ref.BothWays(ELMAN, ELMAN, lambda a, b: (a, b)),
    ),
    Spec(
        "reversed",
        Stack((LSTM(4), Reversed(GRU(4)))),
        ref.Layers((papers.LSTM, ref.Backwards(AFTER))),
    ),
    Spec("both_unlike", Bidirectional(LSTM(4), Elman(5)), ref.BothWays(papers.LSTM, ELMAN, concat)),
    Spec(
        "stack_with_both", Stack((Bidirectional(GRU(4)), LSTM(4))), ref.Layers((BOTH, papers.LSTM))
    ),
    Spec(
        "nested",
        Stack((Stack((Elman(4),)), Bidirectional(Bidirectional(Elman(3)), Stack((GRU(2),))))),
        ref.Layers(
            (
                ref.Layers((ELMAN,)),
                ref.BothWays(ref.BothWays(ELMAN, ELMAN, concat), ref.Layers((AFTER,)), concat),
            )
        ),
    ),
    Spec(
        "stack_connected",
        Stack((LSTM(4), Residual(GRU(4)), Highway(Elman(4))), dropout=0.5),
        ref.Layers((papers.LSTM, papers.residual(AFTER), papers.highway(ELMAN))),
    ),
    Spec(
        "stack_dense",
        Stack((Elman(4), Elman(3), GRU(2)), dense=True),
        ref.Layers((ELMAN, ELMAN, AFTER), dense=True),
    ),
    Spec(
        "stack_repeated",
        Stack.repeat(Jordan(4, features=2, decay=0.5), 2, bidirectional=True, dropout=0.5),
        ref.Layers((ref.BothWays(JORDAN, JORDAN, concat),) * 2),
    ),
    Spec(
        "stack_of_functions",
        Readout(Stack((LSTM(4), "relu", Dense(3, "softsign"), GRU(2)), outputs="all"), 3, "tanh"),
        papers.readout(
            ref.Layers(
                (
                    papers.LSTM,
                    ref.Mapped(lambda params, xs: papers.relu(xs)),
                    papers.dense(lambda z: z / (1 + abs(z))),
                    AFTER,
                ),
                all_outputs=True,
            ),
            np.tanh,
        ),
    ),
    Spec("zoneout", Zoneout(LSTM(4), h=0.2, c=0.6), papers.zoneout(papers.LSTM, h=0.2, c=0.6)),
    Spec(
        "dropped",
        Dropout(
            DropConnect(
                RecurrentDropout(
                    StateNoise(Zoneout(CandidateDropout(GRU(4), 0.2), h=0.3), scale=0.1), rate=0.3
                ),
                rate=0.2,
            ),
            rate=0.4,
        ),
        papers.zoneout(AFTER, h=0.3),
    ),
    Spec("learned_carry", LearnedCarry(LSTM(4)), papers.learned_carry(papers.LSTM)),
    Spec("user_decaying", user.Decaying(4), user.DECAYING, timed),
    Spec("user_deep_transition", user.DeepTransition(4), user.DEEP_TRANSITION),
    Spec("user_highway", user.Highway(4), user.HIGHWAY),
    Spec("user_clockwork", user.Clockwork(4), user.CLOCKWORK),
    Spec("user_ring", user.Ring(4), user.RING, rings),
    Spec("user_linear", user.Leaky(4, out=3), user.LEAKY),
    Spec(
        "user_in_stack",
        Stack((user.Decaying(4), user.Clockwork(3))),
        ref.Layers((user.DECAYING, user.CLOCKWORK)),
        timed,
    ),
    Spec("user_fast_weights", user.FastWeights(4), user.FAST_WEIGHTS, lawful=False),
    Spec("user_rematerialised", user.Rematerialised(4), user.REMATERIALISED, lawful=False),
]

BY_ID = {spec.id: spec for spec in SPECS}


def over(specs: list[Spec]) -> pytest.MarkDecorator:
    """Run a test for each of these."""
    expected = pytest.mark.filterwarnings("ignore:.*scan uses JAX's own derivative:UserWarning")
    return pytest.mark.parametrize(
        "spec", [pytest.param(s, id=s.id, marks=[] if s.lawful else [expected]) for s in specs]
    )


every = over(SPECS)

PROGRAMS = [spec for spec in SPECS if not spec.runs_as]
"""What a walk through time does with a cell depends on its program alone."""

every_program = over(PROGRAMS)
every_causal = over([spec for spec in PROGRAMS if spec.causal])
every_other = over([spec for spec in PROGRAMS if not spec.causal])


def some(*ids: str) -> pytest.MarkDecorator:
    """Run a test for the entries of these names, where every entry would take too long."""
    return over([BY_ID[id] for id in ids])
