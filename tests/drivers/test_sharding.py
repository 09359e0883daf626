"""A batch that is split over devices: the numbers of one device, and no collective within a loop
over time.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

import jaxrnn
from tests.drivers.sharded import PROGRAMS
from tests.support.user_cells import Clockwork


@pytest.fixture(scope="module")
def raised():
    """What each program raised, all in one process, for they need eight CPU devices."""
    environment = {
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "JAX_PLATFORMS": "cpu",
        "PATH": "/usr/bin:/bin",
    }
    command = [sys.executable, "-m", "tests.drivers.sharded"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("program", PROGRAMS)
def test_sharded_batches_agree_and_sum_over_devices_once(raised, program):
    assert program not in raised, raised[program]


def test_integers_in_a_carry_vary_over_devices():
    """They have a zero tangent, of a type that says so, too; one device shows it."""
    cell, batch = Clockwork(4), P(None, "data")
    params = cell.init(jax.random.key(0), 3)

    def loss(params, xs):
        return jnp.sum(jaxrnn.trajectory(cell, params, xs)[1])

    gradient = jax.grad(loss, (0, 1), allow_int=True)
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    specs: Any = {"in_specs": (P(), batch), "out_specs": (P(), batch)}
    jax.eval_shape(jax.shard_map(gradient, mesh=mesh, **specs), params, jnp.ones((3, 2, 3)))
