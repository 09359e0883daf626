"""Set the process up before JAX is imported, then run the command line."""

import os
import sys


def main() -> None:
    # Two devices, so that jaxrnn can be measured with its batch split over two cores. Both share
    # one pool of threads, as large as without the flag: a program on one device is neither slower
    # nor faster for it.
    os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    # What comes from a cache of earlier runs was not compiled.
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from benchmarks.command_line import run

    sys.exit(run())


if __name__ == "__main__":
    main()
