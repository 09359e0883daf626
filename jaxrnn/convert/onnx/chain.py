"""The recurrent nodes of a graph that form one stack, by the axes of the arrays between them."""

from typing import TYPE_CHECKING

from jaxrnn.convert._errors import refuse
from jaxrnn.convert.onnx.graph import Graph
from jaxrnn.convert.onnx.schema import DOMAINS, RECURRENT, attributes_of, is_recurrent, name_of

if TYPE_CHECKING:
    from onnx import NodeProto

Axes = tuple[str, ...]
"""The names of the axes of an array."""

_TIME_MAJOR: tuple[Axes, Axes] = (
    ("time", "batch", "features"),
    ("time", "directions", "batch", "features"),
)
_BATCH_MAJOR: tuple[Axes, Axes] = (
    ("batch", "time", "features"),
    ("batch", "time", "directions", "features"),
)
"""The axes of the input X and of the output Y of a node, for layout 0 and for layout 1."""


def recurrent_nodes(graph: Graph, wanted: str | None) -> "list[NodeProto]":
    """Return the recurrent node of a name, or without a name all of them, which must form a chain.

    Returns:
        The nodes, the bottom one first.

    Raises:
        ValueError: no node or several have that name, or the nodes form no chain. The message lists
            the names of the nodes.
    """
    recurrent = [node for node in graph.nodes if is_recurrent(node)]
    names = [name_of(node) for node in recurrent]
    if not recurrent:
        refuse("from_onnx", f"the model's graph has no {', '.join(RECURRENT)} node")
    if wanted is None:
        _check_chain(graph, names)
        return recurrent
    found = [node for node in recurrent if name_of(node) == wanted]
    if len(found) != 1:
        reason = f"{len(found)} recurrent nodes are named {wanted!r}, expected one"
        refuse("from_onnx", f"{reason}; there are {names}")
    return found


def _check_chain(graph: Graph, names: list[str]) -> None:
    """Refuse recurrent nodes that form no chain.

    In a chain, each node reads all outputs of the one before, with its directions concatenated. The
    function therefore follows the outputs of the last recurrent node through the nodes after it.
    """
    below: str | None = None
    # For each array made from these outputs: its axes, or a phrase that says why it does not fit.
    made: dict[str, Axes | str] = {}
    for node in graph.nodes:
        first = node.input[0] if node.input else ""
        if is_recurrent(node):
            batch_major = attributes_of(node).get("layout") == 1
            takes, gives = _BATCH_MAJOR if batch_major else _TIME_MAJOR
            if below is not None:
                _check_input(node, below, made.get(first, "it comes from elsewhere"), takes, names)
            below, state = name_of(node), "it is a final state"
            outputs = zip(node.output, (gives, state, state), strict=False)
            made = {name: what for name, what in outputs if name}
        elif first in made:
            given = made[first]
            after = given if isinstance(given, str) else _axes_after(graph, node, given)
            made |= dict.fromkeys(node.output[:1], after)


def _check_input(
    node: "NodeProto", below: str, given: Axes | str, takes: Axes, names: list[str]
) -> None:
    """Refuse a node whose X does not have the axes that it takes."""
    if given == takes:
        return
    if not isinstance(given, str):
        given = f"it comes with the axes {list(given)}, expected {list(takes)}"
    reason = f"does not take all that {below!r} gives as its X: {given}"
    hint = f"name one node to read, of {names}"
    refuse("from_onnx", f"{node.op_type} node {name_of(node)!r} {reason}; {hint}")


def _axes_after(graph: Graph, node: "NodeProto", axes: Axes) -> Axes | str:
    """Return the axes of an array after a node, or a phrase if the node changes more than axes."""
    try:
        after = _moved(graph, node, axes)
    except (IndexError, TypeError):  # the node names axes that do not exist
        after = None
    other = f"{node.op_type} node {name_of(node)!r} does more than put directions side by side"
    return after or other


def _moved(graph: Graph, node: "NodeProto", axes: Axes) -> Axes | None:
    """Return the axes after a node that only moves axes, or joins directions and features."""
    attributes = attributes_of(node)
    if node.domain not in DOMAINS:
        return None
    if node.op_type in ("Identity", "Dropout"):
        return axes
    if node.op_type == "Transpose":
        return tuple(axes[k] for k in attributes.get("perm", range(len(axes))[::-1]))
    if node.op_type == "Squeeze":  # before opset 13, its axes were an attribute
        given = attributes.get("axes")
        squeezed = graph.integers(node.input[1]) if given is None else given
        if squeezed is not None and [axes[k] for k in squeezed] == ["directions"]:
            return tuple(axis for axis in axes if axis != "directions")
    if node.op_type == "Reshape" and axes[2:] == ("directions", "features"):
        shape = graph.integers(node.input[1])
        keeps = not attributes.get("allowzero", 0)  # a size of 0 in the shape keeps an axis
        if keeps and shape is not None and len(shape) == 3 and not shape[:2].any():
            return (*axes[:2], "features")
    return None
