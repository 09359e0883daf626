"""Take a model that `char_lm.py` trained out of Python: one streaming step, for any batch, in one
file that holds its weights.

python examples/char_export.py runs/demo/weights.safetensors runs/demo/step.jax

Any process with JAX reads it without the model's code, by `jax.export.deserialize(data).call(carry,
ids)`. What is in it is StableHLO, which other runtimes read, too. The carry is a list of arrays, so
that the reader needs no class of jaxrnn's."""

import dataclasses
import sys
from pathlib import Path
from typing import Any, Literal

import char_model
import jax
import jax.numpy as jnp
import tyro
from char_data import encode
from command_line import check_at_least, fail, parse
from jax import export

import jaxrnn
from jaxrnn.storage import write_whole


@dataclasses.dataclass(frozen=True)
class Options:
    """Write one streaming step of a model that char_lm.py trained to a file, read it again, and
    write text with it.
    """

    model: tyro.conf.Positional[Path]
    """The safetensors file."""
    out: tyro.conf.Positional[Path]
    """The file to write."""
    platforms: tuple[Literal["cpu", "cuda", "rocm", "tpu"], ...] = ("cpu", "cuda")
    """Where the step is to run."""
    length: int = 200
    """How many characters to write with it, as a check."""

    def __post_init__(self) -> None:
        check_at_least(self, 1, "length")


def export_step(
    model: char_model.CharModel, params: char_model.CharParams, platforms: tuple[str, ...]
) -> bytes:
    """`(carry, ids [batch]) -> (carry, logits [batch, symbols])`, for any batch."""
    (batch,) = export.symbolic_shape("batch")
    form = jax.tree.structure(model.initial_carry(params, (1,)))

    def step(carry: list[jax.Array], ids: jax.Array) -> tuple[list[jax.Array], jax.Array]:
        after, logits = model.step_to_known(params, jax.tree.unflatten(form, carry), ids)
        return jax.tree.leaves(after), logits

    leaves = jax.tree.leaves(jax.eval_shape(lambda: model.initial_carry(params, (1,))))
    carry = [jax.ShapeDtypeStruct((batch, *leaf.shape[1:]), leaf.dtype) for leaf in leaves]
    return bytes(
        export.export(jax.jit(step), platforms=platforms)(
            carry, jax.ShapeDtypeStruct((batch,), jnp.int32)
        ).serialize()
    )


def write(data: bytes, prompts: Any, length: int) -> Any:
    """Go on with prompts `[time, batch]` by an exported step alone: its file tells the form of the
    carry.
    """
    step = export.deserialize(bytearray(data))
    *carry, _ = step.in_avals
    start = [jnp.zeros((prompts.shape[1], *leaf.shape[1:]), leaf.dtype) for leaf in carry]

    def read(params: None, carry: Any, ids: Any) -> tuple[Any, Any]:
        carry, logits = step.call(carry, ids)
        return carry, logits

    return jaxrnn.generate(read, None, start, prompts, steps=length).tokens


def main(argv: list[str] | None = None) -> None:
    options = parse(Options, argv)
    try:
        model, params = char_model.load(options.model)
    except ValueError as error:
        fail(error)
    data = export_step(model, params, options.platforms)
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(options.out, data)
    except OSError as error:
        fail(f"cannot write {options.out}: {error.strerror or error}")
    print(f"{options.out}: {len(data):,} bytes, for {', '.join(options.platforms)}")

    beginnings = ["\n**HAM", "\n**KIN", "\nThe s"]
    prompts = jnp.array([encode(model.alphabet, text) for text in beginnings], jnp.int32).T
    tokens = write(options.out.read_bytes(), prompts, options.length)
    carry = model.initial_carry(params, (len(beginnings),))
    same = jaxrnn.generate(model.step_to_known, params, carry, prompts, steps=options.length).tokens
    if not jnp.array_equal(tokens, same):
        sys.exit("error: the exported step writes other text than the model")
    print("Read again, it goes on as the model does, always with the likeliest character:")
    for beginning, row in zip(beginnings, tokens.T, strict=True):
        print("---" + beginning + "".join(model.alphabet[i - 1] for i in row))


if __name__ == "__main__":
    main()
