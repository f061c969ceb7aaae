"""What notebooks 09, 11 and 12 measure, and the numbers that took too long to be made in
a notebook (MEASURED)."""
from pathlib import Path

# logs (.json) and weights (.pt), each written by a module of benchmarks/
MEASURED = Path(__file__).parent / "measured"
