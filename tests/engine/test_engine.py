"""The engine from Python: containers run, started, entered and removed by a program that has threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import veloci
from veloci import Engine, RunOptions, VelociError
from veloci.bundle.options import Options
from veloci.errors import Conflict, InvalidInput, NotFound

pytestmark = pytest.mark.needs("root", "namespaces", "overlay", "busybox")
ALONE = RunOptions(network="none", rm=True)


@pytest.fixture
def engine(box):
    return Engine(f"{box.path}/data", f"{box.path}/run")


def test_a_command_is_run_to_its_end(engine):
    done = engine.run("bb", ["sh", "-c", "echo out; echo err >&2; exit 3"], ALONE)
    assert (done.exit_code, done.stdout, done.stderr, done.text) == (3, b"out\n", b"err\n", "out\n")
    with pytest.raises(NotFound):
        engine.container(done.id)
    with pytest.raises(VelociError, match="the command ended with 3: err"):
        done.check()


def test_it_gets_its_input_and_gives_much_output(engine):
    data = b"".join(b"%d\n" % number for number in range(400_000))  # more than any buffer on the way
    assert engine.run("bb", ["cat"], ALONE, input=data).check().stdout == data
    assert engine.run("bb", ["head", "-n1"], ALONE, input=data).check().stdout == b"0\n"


def test_what_cannot_be_run_is_an_error_of_its_class(engine):
    with pytest.raises(NotFound, match="no such image: nope:latest"):
        engine.run("nope", [], ALONE.replace(pull="never"))
    with pytest.raises(InvalidInput, match="--memory: 'lots' is not a size"):
        engine.run("bb", ["true"], ALONE.replace(memory="lots"))
    with pytest.raises(VelociError) as failure:
        engine.run("bb", ["nope"], ALONE)
    assert failure.value.exit_status == 127
    assert engine.containers.records.ids() == []


def test_a_container_is_an_object(engine):
    with engine.start("bb", ["sh", "-c", "echo up; sleep 60"], RunOptions(name="web", network="none")) as container:
        assert (container.name, container.status) == ("web", "running")
        assert engine.container("web").id == container.id
        assert container.exec(["sh", "-c", "cat; exit 4"], input=b"in").stdout == b"in"
        assert container.exec(["id", "-u"], Options(user="1000")).text == "1000\n"
        with pytest.raises(VelociError) as failure:
            container.exec(["nope"])
        assert failure.value.exit_status == 127
        container.stop(timeout=0)
        assert (container.wait(), container.status, container.logs()) == (137, "exited", "up\n")
        with pytest.raises(Conflict, match="is not running"):
            container.exec(["true"])
        container.start()
        assert container.status == "running"
    with pytest.raises(NotFound):
        engine.container("web")


def test_a_created_container_waits_to_be_started(engine):
    with engine.create("bb", ["true"], RunOptions(network="none")) as container:
        assert container.status == "created"
        container.start()
        assert container.wait() == 0


def test_its_ports_are_told(engine):
    with engine.start("bb", ["sleep", "60"], RunOptions(publish=("127.0.0.1::80",))) as container:
        (inside, (address, number)) = next(iter(container.ports.items()))
        assert (inside, address) == ("80/tcp", "127.0.0.1")
        assert number > 0
        assert container.address


def test_threads_run_containers_side_by_side(engine):
    def one(number):
        return engine.run("bb", ["echo", str(number)], ALONE).check().text

    before = set(threading.enumerate())
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(4))) == [f"{number}\n" for number in range(4)]
    assert set(threading.enumerate()) <= before


def test_every_public_name_is_there():
    assert all(getattr(veloci, name).__doc__ for name in veloci.__all__)
