"""Seconds that each notebook runs, without a network: python -m benchmarks.notebook_time [NAME ...]

->  benchmarks/results/notebook_time.json; with names, the seconds of the other notebooks stay as they were measured
"""
import argparse
import json
import os
import time

import nbformat
from nbclient import NotebookClient

from benchmarks.common import RESULTS, command, write_log

NOTEBOOKS = RESULTS.parent.parent / "notebooks"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="notebooks, such as 07_vit_base; default: all")
    names = parser.parse_args().names
    os.environ["VIT_OFFLINE"] = "1"
    before = json.loads((RESULTS / "notebook_time.json").read_text()) if names else {"seconds": {}, "made_by": {}}
    seconds, made_by = before["seconds"], before["made_by"]
    for file in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        if names and file.stem not in names:
            continue
        start = time.perf_counter()
        notebook = nbformat.read(file, as_version=4)
        NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": NOTEBOOKS}}).execute()
        seconds[file.stem] = round(time.perf_counter() - start, 1)
        made_by[file.stem] = command()
        print(file.stem, seconds[file.stem], flush=True)
    write_log("notebook_time", {"made_by": made_by, "seconds": seconds})


if __name__ == "__main__":
    main()
