"""Pictures of gates: over the symbols that were read, and by how often they are saturated."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from jaxrnn.diagnostics.gates import Saturation
from jaxrnn.diagnostics.pictures._axes import GREY, axes_or_new, looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_VISIBLE = {" ": "␣", "\n": "↵", "\t": "⇥"}


def gates_over_text(
    text: Sequence[str], gates: Mapping[str, ArrayLike], *, axes: "Axes | None" = None
) -> "Axes":
    """Draw a row for each gate, with a field for each symbol: dark for shut gates, bright for open.

    Args:
        text: the symbols that were read, one for each step: characters, words or other names.
        gates: the values `[time]` of each gate, by name, between 0 and 1, such as `f[:, 0, unit]`
            from `f, i, o = gate_values(...)`. Masked steps, which are NaN, stay white.
        axes: where to draw; new ones, as wide as the text, if left out.

    Raises:
        ValueError: a gate does not have one value for each symbol, or there is no gate.

    >>> from jaxrnn.diagnostics.pictures import gates_over_text
    >>> axes = gates_over_text("to be", {"forget 3": [0.9, 0.9, 0.1, 0.8, 0.9]})
    >>> [label.get_text() for label in axes.get_xticklabels()]
    ['t', 'o', '␣', 'b', 'e']
    """
    if not gates:
        raise ValueError("gates_over_text: gates is empty, expected one at least")
    strips = {name: np.asarray(values, float) for name, values in gates.items()}
    for name, values in strips.items():
        if values.shape != (len(text),):
            raise ValueError(
                f"gates_over_text: {name!r} has shape {values.shape}, expected one value for each "
                f"of {len(text)} symbols; pick a sequence and a unit, f[:, 0, 3]"
            )
    symbols = [_VISIBLE.get(symbol, symbol) for symbol in text]
    longest = max([1, *map(len, symbols)])
    axes = axes_or_new(axes, (2.5 + 0.16 * len(text), 0.9 + 0.22 * len(strips)))
    image = axes.imshow(np.array([*strips.values()]), vmin=0, vmax=1, cmap="cividis", aspect="auto")
    axes.set_xticks(range(len(symbols)), symbols, fontsize=8, rotation=90 if longest > 1 else 0)
    axes.set_yticks(range(len(strips)), [*strips], fontsize=8)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    for above in range(1, len(strips)):
        axes.axhline(above - 0.5, color="white", linewidth=2)
    bar = axes.figure.colorbar(image, ax=axes, ticks=[0, 1], pad=0.01)
    bar.ax.set_yticklabels(["shut", "open"], fontsize=8)
    return axes


def saturated_units(
    found: Saturation, names: Sequence[str] | None = None, *, axes: "Axes | None" = None
) -> "Axes":
    """Draw a dot for each unit of each gate, at the shares of steps at which it is shut and open
    (Karpathy, Johnson & Fei-Fei 2015).

    Gates in the lower left are seldom saturated. Those at (1, 0) and (0, 1) always are.

    Args:
        found: `saturation(gates)`.
        names: the names of the gates, in the same order; numbers if left out.
        axes: where to draw; new ones if left out.

    Raises:
        ValueError: there are not as many names as gates.

    >>> import jax.numpy as jnp
    >>> from jaxrnn.diagnostics import saturation
    >>> from jaxrnn.diagnostics.pictures import saturated_units
    >>> axes = saturated_units(saturation([jnp.ones((5, 3)), jnp.zeros((5, 3))]), ["f", "i"])
    >>> axes.get_xlabel()
    'share of steps shut'
    """
    names = [str(k) for k in range(len(found.low))] if names is None else names
    if len(names) != len(found.low):
        raise ValueError(
            f"saturated_units: names has {len(names)} entries, expected one for each of "
            f"{len(found.low)} gates"
        )
    axes = axes_or_new(axes, (4, 4))
    for name, low, high, look in zip(names, found.low, found.high, looks(), strict=False):
        axes.scatter(low, high, s=14, alpha=0.6, color=look.color, label=name)
    axes.plot([0, 1], [1, 0], color=GREY, linewidth=0.8, zorder=0)
    axes.set(xlabel="share of steps shut", ylabel="share of steps open")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.legend(frameon=False, fontsize=8, title="gate")
    return axes
