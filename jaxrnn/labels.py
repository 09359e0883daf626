"""The role of each parameter: input weight, recurrent weight, bias, and so on."""

from jaxrnn.core.call import check_cell
from jaxrnn.core.cell import C, Cell, P

__all__ = ["labels"]


def labels(cell: Cell[P, C], params: P) -> P:
    """Return the role of every parameter, for `optax.multi_transform`, `optax.masked` or a penalty.

    A role is `"input"`, `"recurrent"`, `"projection"`, `"highway"`, `"peephole"`, `"bias"`,
    `"gain"`, `"carry"` (a learned initial carry), `"attention"`, `"output"`, or `"other"`. A cell
    of your own may set the class variable `roles`. By default, `w_x` is input, `w_h` is recurrent,
    and `b` is bias.

    Args:
        cell: any cell.
        params: its parameters, or any pytree of the same structure.

    Returns:
        A pytree like `params`, with a role in place of every array.

    Raises:
        TypeError: `cell` is not a cell.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.Elman(4)
    >>> jaxrnn.labels(cell, cell.init(jax.random.key(0), in_features=3))
    ElmanParams(w_x='input', w_h='recurrent', b='bias', gain=None)
    """
    check_cell(cell, "labels")
    return cell.labels(params)
