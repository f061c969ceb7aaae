"""Tell of each experiment whether its stored results are those of the code as it is.

    python -m going_modular.experiments
"""
from going_modular.experiments.fingerprint import EXPERIMENTS, is_stale


def main() -> int:
    """The command. Returns its exit status: 0, or 1 where results are stale."""
    stale = [name for name in EXPERIMENTS if is_stale(name)]
    for name, (_, command) in EXPERIMENTS.items():
        print(f"{name}: " + (f"stale; make it again by {command}" if name in stale else
                             "as the code computes today"))
    return int(bool(stale))


if __name__ == "__main__":
    raise SystemExit(main())
