"""Which parameter is what."""

from jaxrnn.core.call import check_cell
from jaxrnn.core.cell import C, Cell, P

__all__ = ["labels"]


def labels(cell: Cell[P, C], params: P) -> P:
    """The role of every parameter, for `optax.multi_transform`, `optax.masked` and penalties.

    `"input"`, `"recurrent"`, `"projection"`, `"highway"`, `"peephole"`, `"bias"`, `"gain"`,
    `"carry"` (a learned initial one), `"attention"`, `"output"`, or `"other"`. A cell of your own
    says with `roles` what its parameters are; `w_x`, `w_h` and `b` are input, recurrent and bias
    if it does not.

    Args:
        cell: any cell.
        params: its parameters, or any tree of their structure.

    Returns:
        A tree like `params`, with a word in place of every array.

    Raises:
        TypeError: `cell` is not a cell.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.Elman(4)
    >>> jaxrnn.labels(cell, cell.init(jax.random.key(0), in_features=3))
    ElmanParams(w_x='input', w_h='recurrent', b='bias', gain=None)
    """
    check_cell(cell, "labels")
    return cell.labels(params)
