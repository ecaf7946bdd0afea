"""System calls by number: what they take, what they give, how they fail; processes born in a group."""

import os
import struct

import pytest

from veloci.kernel import process
from veloci.kernel.call import Memory, fsencode, system_call, words
from veloci.kernel.cgroupfs import hierarchies, read

getcwd = system_call("getcwd", 79, 17)
openat = system_call("openat", 257, 56)


def test_numbers_bytes_and_memory_are_passed():
    place = Memory(4096)
    length = getcwd(place.buffer, 4096)
    assert bytes(place)[: length - 1] == os.getcwdb()
    descriptor = openat(-100, b"/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    assert os.path.samestat(os.fstat(descriptor), os.stat("/dev/null"))
    os.close(descriptor)


def test_a_failure_is_the_builtin_error_and_names_the_call():
    with pytest.raises(FileNotFoundError, match=r"^\[Errno 2\] openat: No such file or directory$"):
        openat(-100, b"/nope", os.O_RDONLY)


def test_words_are_a_c_structure():
    assert words(8, 1, -1, 2**64 - 1) == struct.pack("=QqQ", 1, -1, 2**64 - 1)
    assert words(4, 7, -5) + words(2, 9) == struct.pack("=IiH", 7, -5, 9)
    assert Memory(words(4, 1, 2, 3)).numbers(4) == [1, 2, 3]


def test_a_path_is_bytes_as_os_has_them():
    for path in ("/a/ü", b"/raw\xff", "/\udcff"):
        assert fsencode(path) == os.fsencode(path)


@pytest.mark.needs("root")
def test_a_process_is_born_in_its_group():
    unified = [each for each in hierarchies() if not each.controllers]
    if not unified:
        pytest.skip("this host has no cgroup version 2")
    directory = f"{unified[0].mount}/test-born-{os.getpid()}"
    os.mkdir(directory)
    group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        wait, go = os.pipe()
        pid = process.clone(0, group)
        if pid == 0:
            os.read(wait, 1)
            os._exit(7)
        assert read(directory, "cgroup.procs") == str(pid)
        os.write(go, b"0")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        os.close(wait)
        os.close(go)
    finally:
        os.close(group)
        os.rmdir(directory)
