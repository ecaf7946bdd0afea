"""`make fuzz`: each target of targets.py with atheris, guided by coverage, SECONDS each.

    python tests/fuzz/at_length.py SECONDS [TARGET ...]

A target runs in a process of its own; what breaks it is left below .fuzz/ and said at the end.
"""

import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parents[2]
CORPUS = TOP / ".fuzz"
LONGEST = 8192  # bytes of an input


def one(name, seconds):
    """Fuzz one target in this process; it ends when a second is over too many or something breaks."""
    import atheris

    with atheris.instrument_imports(include=["veloci"]):
        from fuzz.targets import TARGETS, tried

    target = next(each for each in TARGETS if each.__name__ == name)
    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[target]):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = (
        f"-max_total_time={seconds} -max_len={LONGEST} -timeout=10 -rss_limit_mb=600 -verbosity=0 -print_final_stats=1"
    )
    atheris.Setup(
        ["fuzz", *options.split(), f"-artifact_prefix={CORPUS}/broken-{name}-", str(corpus)],
        lambda data: tried(target, data),
    )
    atheris.Fuzz()


def main(seconds, names):
    from fuzz.targets import TARGETS

    failed = []
    for name in names or [target.__name__ for target in TARGETS]:
        done = subprocess.run([sys.executable, __file__, "--one", name, seconds], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env={**os.environ, "PYTHONPATH": str(TOP / "tests")})  # fmt: skip
        runs = next((line.split()[-1] for line in done.stdout.splitlines() if "number_of_executed_units" in line), "?")
        print(f"{name:12} {'ok' if done.returncode == 0 else 'BROKEN'}, {runs} tries", flush=True)
        if done.returncode:
            failed.append(name)
            print(
                *(line for line in done.stdout.splitlines()[-60:] if not line.startswith(("INFO", "WARNING"))), sep="\n"
            )
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        one(sys.argv[2], sys.argv[3])
    else:
        sys.path.insert(0, str(TOP / "tests"))
        sys.exit(main(sys.argv[1], sys.argv[2:]))
