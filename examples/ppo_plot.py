"""The picture of a run of `recurrent_ppo.py`: success during training, for each agent and seed."""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter

COLORS = {"LSTM": "#3b78b8", "GRU": "#c8442c", "no memory": "#666666"}


def plot(
    path: Path, steps: list[int], rates: dict[str, list[list[float]]], chance: float, title: str
) -> None:
    """Draw rates of success against steps in the environment: thin lines are seeds, thick ones
    their mean.
    """
    figure, axes = plt.subplots(figsize=(8, 4.5), dpi=120, layout="constrained")
    for name, of_seeds in rates.items():
        curves = np.array(of_seeds)
        axes.plot(steps, curves.T, color=COLORS[name], linewidth=0.8, alpha=0.5)
        axes.plot(steps, curves.mean(0), color=COLORS[name], linewidth=2.2, label=name)
    axes.axhline(
        chance, color="black", linewidth=1, linestyle=(0, (5, 4)), label="chance", zorder=1
    )
    axes.set(ylim=(0, 1.03), xlabel="steps in the environment", ylabel="success rate", title=title)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda steps, _: f"{steps:,.0f}"))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside lower center", ncols=4)
    half = path.with_name(path.name + ".tmp")
    figure.savefig(half, format="png")
    plt.close(figure)
    half.replace(path)
