"""A batch that is split over devices: the numbers of one device, and no collective within a loop
over time.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.drivers.sharded import PROGRAMS


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
