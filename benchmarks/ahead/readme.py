"""`python -m benchmarks.ahead.readme [--check]`: write what was counted into the site's page on
performance.
"""

import sys

from benchmarks import readme, record
from benchmarks.ahead import tables

MARKERS = ("<!-- ahead -->", "<!-- /ahead -->")


def main(argv: list[str]) -> int:
    """As `benchmarks.readme` does for what was timed."""
    results = record.RESULTS / "ahead.json"
    section = tables.section
    return readme.main(
        argv, results=results, section=section, markers=MARKERS, module="benchmarks.ahead.readme"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
