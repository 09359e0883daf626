"""Write text with a model that `char_lm.py` trained, one character at a time.

    python examples/sample.py runs/demo/weights.safetensors --temperature 0.7 --prompt "**HAMLET**"
    python examples/sample.py runs/demo/weights.safetensors --export runs/demo/step.jax

The second command also exports one streaming step for any batch size, as a program that runs
without the code of the model (`kit/export.py`)."""

import dataclasses
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import tyro

import char_model
import jaxrnn
from jaxrnn.storage import write_whole
from kit.command_line import check_at_least, check_positive, command
from kit.export import export_step, generate_exported
from kit.files import make_writable


@dataclasses.dataclass(frozen=True)
class Options:
    """Write text with a model that char_lm.py trained, one character at a time."""

    model: tyro.conf.Positional[Path]
    """The safetensors file."""
    length: int = 500
    """How many characters to write."""
    temperature: float = 0.7
    """Below 1 the likely characters become likelier, above 1 the unlikely ones."""
    prompt: str = ""
    """Text to continue; it is printed first."""
    seed: int = 0
    """The same seed writes the same text."""
    export: Path | None = None
    """A file for the exported streaming step with the weights, for CPU and CUDA."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "length")
        check_positive(self, "temperature")


@command(Options)
def main(o: Options) -> None:
    model, params = char_model.load(o.model)
    if o.export:
        step = partial(model.step_to_known, params)
        data = export_step(step, model.initial_carry(params, (1,)), ("cpu", "cuda"))
        read, start = jnp.array([model.encode(o.prompt)]).T, model.initial_carry(params, (1,))
        same = jaxrnn.generate(model.step_to_known, params, start, read, steps=o.length)
        if not jnp.array_equal(generate_exported(data, read, o.length), same.tokens):
            raise ValueError("the exported step writes other text than the model")
        make_writable(o.export.parent)
        write_whole(o.export, data)
        print(f"{o.export}: {len(data):,} bytes; writes the same text as the model\n")
    print(o.prompt + model.write(params, o.length, o.temperature, o.seed, o.prompt))


if __name__ == "__main__":
    main()
