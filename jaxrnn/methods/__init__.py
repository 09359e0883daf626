"""Methods: how T steps are run and differentiated. `jaxrnn.scan(..., method=)` chooses one."""

from typing import Literal

from jaxrnn.methods.autodiff import Autodiff
from jaxrnn.methods.bptt import BPTT, Checkpointed
from jaxrnn.methods.method import Method, Step, step_of, steps
from jaxrnn.methods.unrolled import Unrolled

__all__ = [
    "BPTT",
    "Autodiff",
    "Checkpointed",
    "Method",
    "MethodLike",
    "Step",
    "Unrolled",
    "step_of",
    "steps",
]

MethodLike = Literal["bptt", "checkpointed", "autodiff"] | Method
"""A value of `method=`: a name, or an instance."""

NAMED: dict[str, Method] = {"bptt": BPTT(), "checkpointed": Checkpointed(), "autodiff": Autodiff()}


def named(owner: str, method: object) -> Method:
    """Return the method with this name, or the method itself.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(method, Method):
        return method
    if isinstance(method, str) and method in NAMED:
        return NAMED[method]
    hint = ", constructed" if isinstance(method, type) and issubclass(method, Method) else ""
    raise ValueError(
        f"{owner}: method is {method!r}, expected one of {list(NAMED)}, or one of jaxrnn.methods "
        f"such as BPTT(block=32){hint}"
    )
