"""Volumes as files: made, used, filled and removed by many at once, and after a kill."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from veloci import Engine
from veloci.errors import Conflict, InvalidInput, NotFound, Unsupported, VelociError


@pytest.fixture
def engine(tmp_path):
    return Engine(f"{tmp_path}/data", f"{tmp_path}/run")


@pytest.fixture
def volumes(engine):
    return engine.volumes


@pytest.fixture
def root(tmp_path):
    """A root file system, as a descriptor."""
    place = tmp_path / "root/data/sub"
    place.mkdir(parents=True)
    (place / "file").write_text("content")
    (place.parent / "link").symlink_to("sub/file")
    descriptor = os.open(tmp_path / "root", os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def container(engine, id):
    os.makedirs(f"{engine.root}/containers/{id}")
    return id


def test_many_make_one_volume(volumes):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: volumes.create("one", labels={"a": "b"}), range(16)))
    assert len({volume.created for volume in made}) == 1
    assert [volume.name for volume in volumes.all()] == ["one"]


def test_a_volume_is_used_or_removed_and_never_both(engine, volumes):
    users = [container(engine, f"{number:064}") for number in range(32)]

    def use(user):
        place = volumes.place(volumes.create("shared", user=user))
        assert os.path.isdir(place)
        volumes.release("shared", user)

    def remove(_):
        try:
            volumes.remove("shared")
        except (Conflict, NotFound) as error:
            return str(error).partition(" by ")[0]
        return "removed"

    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(use, user) for user in users]
        said = {pool.submit(remove, None) for _ in range(30)}
        for each in done:
            each.result()
        assert {each.result() for each in said} <= {"removed", "volume shared is in use", "no such volume: shared"}
    assert not [name for name in os.listdir(volumes.root) if name.startswith((".new", ".gone"))]


def test_it_is_filled_once_by_many(volumes, root):
    volume = volumes.create("full")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: volumes.fill(volume, root, "/data"), range(8)))
    place = volumes.place(volume)
    assert sorted(os.listdir(place)) == ["link", "sub"]
    assert sorted(os.listdir(os.path.dirname(place))) == [".lock", "_data", "users", "volume.json"]


def test_a_path_that_leads_outside_is_resolved_inside(volumes, root, tmp_path):
    (tmp_path / "root/away").symlink_to("/../../data")
    (tmp_path / "root/etc").symlink_to("/no/such")
    volume = volumes.create("inside")
    volumes.fill(volume, root, "/etc")
    assert os.listdir(volumes.place(volume)) == []
    volumes.fill(volume, root, "/away")
    assert sorted(os.listdir(volumes.place(volume))) == ["link", "sub"]


def test_what_kills_left_goes_with_the_next_prune(volumes):
    volume = volumes.create()
    os.makedirs(f"{volumes.root}/.gone-x/_data/y")
    os.makedirs(f"{volumes.root}/.new-x")
    assert volumes.prune(lambda volume: volume.anonymous)[0] == [volume.name]
    assert os.listdir(volumes.root) == [".lock"]


def test_a_damaged_file_is_said_and_can_be_removed(volumes):
    volumes.create("torn")
    with open(f"{volumes.root}/torn/volume.json", "w"):
        pass
    with pytest.raises(VelociError, match="the file is damaged"):
        volumes.get("torn")
    assert [volume.name for volume in volumes.all()] == ["torn"]
    volumes.remove("torn")
    with pytest.raises(NotFound):
        volumes.get("torn")


@pytest.mark.parametrize("name", ["../x", "a/b", ".x", "é", "a\nb", "x" * 256])
def test_a_name_is_no_path(volumes, name):
    with pytest.raises(InvalidInput, match="is not a volume's name"):
        volumes.create(name)
    for verb in (volumes.get, volumes.remove):
        with pytest.raises(NotFound):
            verb(name)


def test_options_must_agree(volumes, tmp_path):
    options = {"type": "none", "o": "bind", "device": str(tmp_path)}
    assert volumes.place(volumes.create("here", options=options)) == str(tmp_path)
    with pytest.raises(Conflict, match="volume here exists with other options"):
        volumes.create("here", options={**options, "device": "/"})
    with pytest.raises(InvalidInput, match="/none' is not a directory"):
        volumes.create("there", options={**options, "device": f"{tmp_path}/none"})
    with pytest.raises(InvalidInput, match="invalid option: 'size'"):
        volumes.create("there", options={"size": "1"})
    with pytest.raises(Unsupported):
        volumes.create("there", options={"type": "tmpfs", "device": "tmpfs"})
