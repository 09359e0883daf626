"""Write text with a model that `char_lm.py` trained, each character read in turn.

python examples/sample.py runs/demo/weights.safetensors --temperature 0.7 --prompt "**HAMLET**"
"""

import dataclasses
import os
import sys
from pathlib import Path

import char_model
import tyro
from command_line import check_at_least, check_positive, fail, parse


@dataclasses.dataclass(frozen=True)
class Options:
    """Write text with a model that char_lm.py trained, each character read in turn."""

    model: tyro.conf.Positional[Path]
    """The safetensors file."""
    length: int = 500
    """How many characters to write."""
    temperature: float = 0.7
    """Below 1 the likely characters become likelier, above 1 the unlikely ones."""
    prompt: str = ""
    """Text to go on from; it is printed first."""
    seed: int = 0
    """The same seed writes the same text."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "length")
        check_positive(self, "temperature")


def main(argv: list[str] | None = None) -> None:
    options = parse(Options, argv)
    try:
        model, params = char_model.load(options.model)
    except ValueError as error:
        fail(error)
    print(
        options.prompt
        + char_model.write(
            model, params, options.length, options.temperature, options.seed, options.prompt
        )
    )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # as in `sample.py ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
