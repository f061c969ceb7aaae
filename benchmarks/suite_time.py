"""How long `make test` takes after the install.

python -m benchmarks.suite_time  ->  benchmarks/results/suite_time.json
"""
import os
import re
import subprocess
import time
from pathlib import Path

from benchmarks.common import write_log


def main() -> None:
    start = time.perf_counter()
    result = subprocess.run(["make", "test"], cwd=Path(__file__).parent.parent, capture_output=True, text=True,
                            env={**os.environ, "PYTEST_ADDOPTS": "--durations=15"})
    seconds = time.perf_counter() - start
    said = result.stdout.splitlines()
    print("\n".join(said[-20:]))
    if result.returncode:
        raise SystemExit("make test failed: nothing is logged")
    slowest = [line.split(maxsplit=2) for line in said if re.match(r"[\d.]+s (call|setup|teardown) ", line)]
    write_log("suite_time", {"seconds": round(seconds), "last_line": said[-1].strip("= "),
                            "slowest": {name: f"{taken} {kind}" for taken, kind, name in slowest}})


if __name__ == "__main__":
    main()
