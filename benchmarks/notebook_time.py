"""Seconds that each notebook runs, without a network: python -m benchmarks.notebook_time

->  benchmarks/results/notebook_time.json
"""
import os
import time

import nbformat
from nbclient import NotebookClient

from benchmarks.common import RESULTS, write_log

NOTEBOOKS = RESULTS.parent.parent / "notebooks"


def main() -> None:
    os.environ["VIT_OFFLINE"] = "1"
    seconds = {}
    for file in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        start = time.perf_counter()
        notebook = nbformat.read(file, as_version=4)
        NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": NOTEBOOKS}}).execute()
        seconds[file.stem] = round(time.perf_counter() - start, 1)
        print(file.stem, seconds[file.stem], flush=True)
    write_log("notebook_time", {"seconds": seconds})


if __name__ == "__main__":
    main()
