"""Fixtures and the Hypothesis profiles."""

import gc
import os
from importlib import metadata
from pathlib import Path

# Nearly all the time of these tests is XLA's, which compiles six times as fast when it does not
# optimise. `XLA_FLAGS= pytest` tests what users run.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
    # jaxlib 0.11.2 and later know this one no more, and abort
    + " --xla_cpu_use_fusion_emitters=false"
    * (tuple(map(int, metadata.version("jaxlib").split(".")[:3])) < (0, 11, 2)),
)

# Threads that wait for work by spinning take the cores from the other processes of these tests.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Nobody reads where in the source an operation of these programs came from.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")

# A second run on the same machine finds its programs compiled. `JAX_ENABLE_COMPILATION_CACHE=0`
# leaves it out.
if not os.environ.get("CI"):
    _programs = Path(__file__).parents[1] / ".jax_cache"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_programs))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jax
import pytest
from hypothesis import HealthCheck, settings

from tests.support.helpers import programs_of_gradients

# Programs live in caches and not in garbage, but looking for garbage passes by all of them: a tenth
# of the time, unless it is done a thousand times more rarely.
gc.set_threshold(700_000)

# Compiling happens inside the first example, and `x64` holds for all examples of a test on purpose.
_COMMON = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}
settings.register_profile("local", max_examples=20, **_COMMON)
settings.register_profile("ci", max_examples=50, derandomize=True, **_COMMON)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture
def x64():
    """Double precision while the test runs, so that equality can be asked for to 1e-11."""
    before = jax.config.jax_enable_x64  # type: ignore[attr-defined]
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def strict():
    """No implicit promotion, of any two dtypes that are not weak. The tests over all specs ask for
    it together with `x64`, so that they share compiled programs.
    """
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def dtype(request: pytest.FixtureRequest) -> str:
    """The name of a dtype, for tests that say `indirect=["dtype"]`: JAX holds float64 while they
    run with it.
    """
    if request.param == "float64":
        request.getfixturevalue("x64")
    return request.param


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring the tests of one spec together, so that one worker of pytest-xdist runs them and
    compiles their programs once.
    """
    order: dict[str, int] = {}
    for item in items:
        order.setdefault(_group(item), len(order))
    items.sort(key=lambda item: order[_group(item)])


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Let go of programs after each spec, for a process can map only so many pieces of compiled
    code: of those of gradients, which serve one spec, and of all when there are many. The small
    ones serve the next spec, too.
    """
    if nextitem is not None and _group(item) != _group(nextitem):
        programs_of_gradients.clear_cache()  # type: ignore[attr-defined]
        if _mapped() > 58_000:
            jax.clear_caches()


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure() -> None:
    """Spare pytest's last search for garbage all programs: it took seconds, and finds nothing that
    matters to a process at its end.
    """
    gc.freeze()


def _mapped() -> int:
    """How many pieces of memory this process has mapped, of 65,530 that Linux allows."""
    maps = Path("/proc/self/maps")
    return maps.read_bytes().count(b"\n") if maps.exists() else 0


def _group(item: pytest.Item) -> str:
    """The spec of a test, or the file of one that has none."""
    parameters = (
        item.callspec.params
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
        else {}
    )
    return getattr(parameters.get("spec"), "id", str(item.path))
