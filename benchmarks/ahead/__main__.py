"""Set the process up before JAX is imported, then run the command line."""

import os
import sys

SETTINGS = {
    "JAX_PLATFORMS": "cpu",  # what the process itself runs on
    "JAX_ENABLE_COMPILATION_CACHE": "false",  # a program from there was not compiled, and says less
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # or the TPU's library looks for its own machine
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def main() -> None:
    os.environ.update(SETTINGS)
    from benchmarks.ahead.command_line import run

    sys.exit(run())


if __name__ == "__main__":
    main()
