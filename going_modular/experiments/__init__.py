"""The experiments of notebooks 09, 11 and 12, and results that take too long to compute there."""
from pathlib import Path

# Logs (.json) and weights (.pt), each written by a module of benchmarks/.
MEASURED = Path(__file__).parent / "measured"
