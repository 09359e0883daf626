"""Gradient flow: how far back gradients reach, before training and after, and what helps.

    python examples/gradient_flow.py

A network reads a symbol, then 30 steps of noise, and must then name the symbol. It can learn this
only if the gradient of the loss reaches the state at the symbol. This gradient, ‖∂L/∂h_t‖, has one
Jacobian as a factor for each step on the way back, so it vanishes or explodes (Hochreiter 1991;
Bengio, Simard & Frasconi 1994). `jaxrnn.diagnostics` measures it while networks with tanh, with
rectified linear units and with gates learn, or fail to.

The remedies are orthogonal recurrent weights, the identity (Le, Jaitly & Hinton 2015), gates, a
forget gate that starts open (Gers, Schmidhuber & Cummins 2000), clipping (Pascanu, Mikolov & Bengio
2013), and input reversal (Sutskever, Vinyals & Le 2014), which moves early inputs near to the loss
and late ones away from it. All networks learn by Adam at one rate, from the same sequences, once
with clipping and once without."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from jaxrnn.diagnostics import jacobian_flow, pictures
from jaxrnn.initializers import Identity
from kit import plots
from kit.command_line import check_at_least, check_positive, check_seed, command
from kit.files import make_writable
from kit.recall.task import SYMBOLS, Network, recall
from kit.recall.training import Found, train

SHOWN = ("tanh, orthogonal", "LSTM, forget bias 1")  # over time and training
RELATIVE = "‖∂L/∂carry‖, 1 at the end"


@dataclasses.dataclass(frozen=True)
class Options:
    """Measure how far back gradients reach in recurrent networks, before and after training."""

    length: int = 30
    """Steps from the symbol to the question."""
    hidden: int = 32
    """Units of each network."""
    steps: int = 1000
    """Updates."""
    batch: int = 32
    """Sequences in an update."""
    rate: float = 0.01
    """Adam's learning rate."""
    norm: float = 1.0
    """The global norm to which gradients are clipped."""
    every: int = 20
    """Updates from one measurement to the next."""
    seed: int = 0
    """Seed of the initial weights and the sequences."""
    out: Path = Path("runs/gradient_flow")
    """Folder for the picture, the table, and the records of each network."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "length", "hidden", "steps", "batch", "every")
        check_positive(self, "rate", "norm")
        check_seed(self.seed)


def normal(scale: float, key: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Random weights; the spectral radius of a large square matrix is `scale`."""
    return (scale * jax.random.normal(key, shape) / shape[0] ** 0.5).astype(dtype)


def networks(hidden: int) -> dict[str, Network]:
    """What is compared, each of the same width."""
    elman = partial(jaxrnn.Elman, hidden)
    small, inputs = (partial(normal, scale) for scale in (0.5, 0.1))
    return {
        "tanh, small weights": Network(elman(w_h_init=small)),
        "tanh, orthogonal": Network(elman()),
        "ReLU": Network(elman(activation="relu", w_h_init=partial(normal, 1.0))),
        "ReLU, identity (IRNN)": Network(
            elman(activation="relu", w_h_init=Identity(), w_x_init=inputs)
        ),
        "LSTM, forget bias 0": Network(jaxrnn.LSTM(hidden, forget_bias=0.0)),
        "LSTM, forget bias 1": Network(jaxrnn.LSTM(hidden)),
        "GRU": Network(jaxrnn.GRU(hidden)),
        "tanh, small, backwards": Network(elman(w_h_init=small), backwards=True),
    }


def relative(norms: Any) -> np.ndarray:
    """To the size at the end, which goes to zero with the loss."""
    return np.asarray(norms) / np.asarray(norms)[..., :1]


def table(o: Options, found: dict[str, Found]) -> str:
    """A line for each network."""
    header = f"{'':<24}{'radius':>8}{'before':>9}{'after':>9}{'largest':>9}"
    lines = [f"{header}{'right':>8}{'largest':>11}{'right':>8}"]
    for name, network in networks(o.hidden).items():
        one, symbol = found[name], 0 if network.backwards else o.length
        first = one.recorder.snapshots[0]
        radius = max(spectrum.radius.max() for spectrum in first.spectra.values())
        line = f"{name:<24}{radius:>8.2f}"
        for norms in (first.norms, one.after.norms):
            line += f"{relative(norms)[symbol]:>9.0e}"
        (clipped, without), (large, larger) = one.right, one.largest
        lines.append(line + f"{large:>9.0e}{clipped:>8.1%}{larger:>11.0e}{without:>8.1%}")
    return "\n".join(lines)


def bars(axes: Any, found: dict[str, Found]) -> None:
    """Right answers, with clipping and without."""
    places = np.arange(len(found))
    for k, (label, color) in enumerate((("clipped", plots.BLUE), ("not clipped", plots.RED))):
        values = [one.right[k] for one in found.values()]
        axes.barh(places + 0.2 * (2 * k - 1), values, height=0.38, color=color, label=label)
    axes.axvline(1 / SYMBOLS, color=plots.GREY, linestyle=plots.DASHED, linewidth=1)
    axes.set_yticks(places, [*found], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.02), xlabel="right answers; dashed: guessing")
    axes.set_title("what is learned", loc="left")
    axes.legend(frameon=False, fontsize=9, loc="lower right", bbox_to_anchor=(1, 0.99), ncols=2)


def draw(o: Options, found: dict[str, Found]) -> None:
    """Above, all networks; below, two of them while they learn, and the Jacobians of one."""
    figure, ((before, after, right), below) = plots.make_grid(2, 3, size=(16, 9), share=False)
    at_first = {name: relative(one.recorder.snapshots[0].norms) for name, one in found.items()}
    pictures.flow_curves(at_first, axes=before)
    at_last = {name: relative(one.after.norms) for name, one in found.items()}
    pictures.flow_curves(at_last, axes=after)
    before.set(title="before training", ylabel=RELATIVE)
    after.set(title="after training, with clipping", ylabel=RELATIVE)
    curves = {"handles": before.lines, "ncols": 4, "fontsize": 9, "frameon": False}
    figure.legend(**curves, loc="outside lower center", title="curves above")
    for axes in (before, after):
        axes.get_legend().remove()
    bars(right, found)
    for axes, name in zip(below, SHOWN, strict=False):
        recorder = found[name].recorder
        pictures.flow_map(relative(recorder.norms()), recorder.steps, axes=axes)
        axes.figure.axes[-1].set_ylabel(RELATIVE)  # the colour bar
        axes.set_title(name)
    name = SHOWN[-1]
    xs, _ = recall(jax.random.key(o.seed + 1), o.length, 8)
    cell, params = networks(o.hidden)[name].cell, found[name].params
    flow = jacobian_flow(cell, params["rnn"], xs, singular_values=True)
    pictures.singular_values(flow, axes=below[-1])
    below[-1].set_title(f"{name}: Jacobians after training")
    plots.save(figure, o.out / "gradient_flow.png")


@command(Options)
def main(o: Options) -> None:
    make_writable(o.out)
    found = {name: train(network, o, name) for name, network in networks(o.hidden).items()}
    text = table(o, found)
    (o.out / "table.txt").write_text(text + "\n", encoding="utf-8")
    recorded = [f"{name}\n{one.recorder.table()}\n" for name, one in found.items()]
    (o.out / "recorded.txt").write_text("\n".join(recorded), encoding="utf-8")
    draw(o, found)
    print(text)
    print("before, after training: ‖∂L/∂carry‖ at the step of the symbol, over that at the end")
    print("largest norm of the gradient of all parameters, right answers: with clipping, then")
    print("without it")
    print(f"{o.out}: gradient_flow.png, table.txt, recorded.txt")


if __name__ == "__main__":
    main()
