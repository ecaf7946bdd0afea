"""The whole path, walked by the demo itself, with busybox in place of Java."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[1] / "examples/demo/demo.py"


@pytest.mark.needs("root", "overlay", "podman", "dockerd", "runc", "crun", "runsc", "skopeo", "curl", "nft", "busybox")
def test_every_step_says_what_it_promised_and_nothing_is_left_behind(tmp_path):
    place = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with (tmp_path / "log").open("wb") as log:
        done = subprocess.run(
            [sys.executable, "-I", DEMO, "--quick"], stdout=log, stderr=log, env=place, timeout=280, check=False
        )
    text = (tmp_path / "log").read_text()
    assert done.returncode == 0, text[-4000:]
    assert text.endswith("== What is left behind:\n  nothing\n")
