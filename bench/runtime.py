"""`run` of /bin/true on one busybox bundle: veloci-runtime beside runc and crun, interleaved; medians and ratios."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 15


def main():
    own = str(Path(sys.executable).parent / "veloci-runtime")
    programs = {"runc": shutil.which("runc"), "crun": shutil.which("crun"), "veloci-runtime": own}
    programs = {name: path for name, path in programs.items() if path}
    times = {name: [] for name in programs}
    with tempfile.TemporaryDirectory() as bundle:
        binaries = Path(bundle, "rootfs/bin")
        binaries.mkdir(parents=True)
        shutil.copy("/bin/busybox", binaries)
        (binaries / "true").symlink_to("busybox")
        subprocess.run([own, "spec"], cwd=bundle, check=True)
        file = Path(bundle, "config.json")
        config = json.loads(file.read_text())
        config["ociVersion"] = "1.0.2"  # the only one that crun 1.8 takes
        config["process"].update(terminal=False, args=["true"])
        file.write_text(json.dumps(config))
        for _ in range(ROUNDS):
            for name, path in programs.items():
                began = time.perf_counter()
                done = subprocess.run(
                    [path, "run", f"bench-{os.getpid()}"], cwd=bundle, capture_output=True, check=False
                )
                times[name].append(time.perf_counter() - began)
                if done.returncode:
                    sys.exit(f"{name}: {done.stderr.decode()}")
    base = statistics.median(times["runc"]) if "runc" in times else None
    for name, each in times.items():
        median = statistics.median(each)
        ratio = f"{median / base:6.2f} of runc" if base else ""
        print(f"run true  {name:16}{median * 1000:8.1f} ms{ratio}")


if __name__ == "__main__":
    main()
