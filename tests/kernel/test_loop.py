"""Files as block devices."""

import os
from pathlib import Path

import pytest

from veloci.kernel.loop import attached

pytestmark = pytest.mark.needs("root")


def test_a_file_is_a_device_that_is_gone_with_its_last_user(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"1" * 512 + b"2" * 512)
    with path.open("rb") as file:
        device, name = attached(file.fileno())
    about = Path("/sys/block", os.path.basename(name), "loop/backing_file")
    assert about.read_text() == f"{path}\n"
    with open(name, "rb") as again:
        os.close(device)
        assert again.read() == path.read_bytes()
        assert about.read_text() == f"{path}\n"
    assert not about.exists()


def test_it_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(bytes(512))
    with (tmp_path / "file").open("rb") as file:
        device, name = attached(file.fileno())
    try:
        with pytest.raises(PermissionError), open(name, "wb", buffering=0) as opened:
            opened.write(bytes(512))
    finally:
        os.close(device)
