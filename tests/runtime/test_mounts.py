"""Mounts: every option, seen in the container's own mount table, and the files below."""

import os
import subprocess

import pytest

pytestmark = pytest.mark.needs("root", "namespaces", "busybox")

ATTRIBUTES = {"ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "nosymfollow"}


def table(text):
    """/proc/self/mountinfo: place -> (attributes, propagation, file system, its options)."""
    found = {}
    for line in text.splitlines():
        left, right = line.split(" - ")
        fields = left.split()
        found[fields[4]] = (set(fields[5].split(",")), " ".join(fields[6:]), right.split()[0], right.split()[2])
    return found


def mounted(runtime, *mounts, **more):
    """The mount table of a container with these mounts besides the usual."""
    done = runtime.run("cat", "/proc/self/mountinfo", change=lambda c: c["mounts"].extend(mounts), **more)
    assert done.returncode == 0, done.stderr
    return table(done.stdout)


def tmpfs(place, *options):
    return {"destination": place, "type": "tmpfs", "source": "tmpfs", "options": list(options)}


def bound(source, place, *options):
    return {"destination": place, "type": "none", "source": str(source), "options": ["bind", *options]}


def test_attributes_are_set_on_a_new_file_system(either):
    options = {
        "/a": ["ro"],
        "/b": ["nosuid", "nodev", "noexec"],
        "/c": ["nosuid", "suid", "nodev", "dev", "noexec", "exec", "ro", "rw"],
        "/d": ["noatime"],
        "/e": ["strictatime"],
        "/f": ["relatime", "nodiratime"],
        "/g": ["mode=1755", "size=64k", "uid=3"],
        "/h": ["async", "nomand", "iversion"],
    }
    found = mounted(either, *(tmpfs(place, *words) for place, words in options.items()))
    shown = {place: found[place][0] & ATTRIBUTES for place in options}
    assert shown == {
        "/a": {"ro", "relatime"},
        "/b": {"nosuid", "nodev", "noexec", "relatime"},
        "/c": {"relatime"},
        "/d": {"noatime"},
        "/e": set(),
        "/f": {"relatime", "nodiratime"},
        "/g": {"relatime"},
        "/h": {"relatime"},
    }
    assert {"size=64k", "mode=1755", "uid=3"} <= set(found["/g"][3].split(","))


def test_symbolic_links_are_not_followed_on_demand(runtime):
    assert "nosymfollow" in mounted(runtime, tmpfs("/a", "nosymfollow"))["/a"][0]


def test_attributes_are_set_on_a_bind_mount_and_leave_the_hosts_alone(either, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    options = {"/a": ["ro"], "/b": ["nosuid", "noexec"], "/c": ["rbind", "nodev"], "/d": ["ro", "noatime"]}
    found = mounted(either, *(bound(source, place, *words) for place, words in options.items()))
    assert {place: found[place][0] & ATTRIBUTES - {"relatime"} for place in options} == {
        "/a": {"ro"},
        "/b": {"nosuid", "noexec"},
        "/c": {"nodev"},
        "/d": {"ro", "noatime"},
    }
    (source / "file").touch()  # still writable here


@pytest.mark.needs("unshare")
def test_options_of_a_bind_mount_say_all_or_nothing(either, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid,noexec,noatime", "tmpfs", source], check=True)
    try:
        options = {"/a": [], "/b": ["ro"], "/c": ["nodev"], "/d": ["rprivate"]}
        found = mounted(either, *(bound(source, place, *words) for place, words in options.items()))
    finally:
        subprocess.run(["umount", source], check=True)
    kept = {"nosuid", "noexec", "noatime"}
    shown = [found[place][0] & ATTRIBUTES for place in options]
    assert shown == [kept, {"ro", "noatime"}, {"nodev", "noatime"}, kept]


def test_recursive_attributes_reach_the_mounts_below(either, tmp_path):
    source = tmp_path / "source"
    (source / "below").mkdir(parents=True)
    mounts = [
        bound(source, "/a", "rbind", "rro"),
        bound(source, "/b", "rbind", "ro"),
        bound(source, "/c", "rbind", "rnosuid", "rnoexec", "rnodev", "rnoatime"),
        bound(source, "/d", "rbind", "rro", "rw"),
    ]
    either.configure("cat", "/proc/self/mountinfo", change=lambda c: c["mounts"].extend(mounts))
    script = f'mount -t tmpfs tmpfs {source}/below && "$@"'
    done = either.run_within(script)
    assert done.returncode == 0, done.stderr
    found = table(done.stdout)
    shown = {
        place: found[place][0] & ATTRIBUTES - {"relatime"}
        for place in found
        if place[:2] in ("/a", "/b", "/c", "/d") and place[2:3] in ("", "/")
    }
    assert shown["/a"] == shown["/a/below"] == shown["/d"] == shown["/d/below"] == {"ro"}
    assert (shown["/b"], shown["/b/below"]) == ({"ro"}, set())
    assert shown["/c"] == shown["/c/below"] == {"nosuid", "noexec", "nodev", "noatime"}


def test_propagation_of_each_kind(either, tmp_path):
    (tmp_path / "source").mkdir()
    source = tmp_path / "source"
    found = mounted(
        either,
        bound(source, "/a", "private"),
        bound(source, "/b", "rshared"),
        bound(source, "/c", "unbindable"),
        bound(source, "/d", "rslave", "rprivate"),
        tmpfs("/e", "shared"),
    )
    kinds = {place: found[place][1].partition(":")[0] for place in ("/a", "/b", "/c", "/d", "/e")}
    assert kinds == {"/a": "", "/b": "shared", "/c": "unbindable", "/d": "", "/e": "shared"}


@pytest.mark.needs("unshare")
@pytest.mark.parametrize(("propagation", "seen"), [("rslave", True), ("rprivate", False)])
def test_a_mount_made_later_on_the_host_is_seen_below_a_slave(either, tmp_path, propagation, seen):
    source = tmp_path / "source"
    (source / "later").mkdir(parents=True)

    def change(config):
        config["mounts"].append(bound(source, "/a", "rbind", propagation))
        config["root"]["readonly"] = False
        config["linux"]["rootfsPropagation"] = propagation

    either.configure("sh", "-c", "while ! test -e /go; do sleep 0.05; done; cat /proc/self/mountinfo", change=change)
    script = (
        f"mount --bind {source} {source} && mount --make-shared {source} && "
        f'{{ "$@" & pid=$!; sleep 0.6; mount -t tmpfs tmpfs {source}/later; touch {either.bundle}/rootfs/go; wait $pid; }}'
    )
    done = either.run_within(script)
    assert done.returncode == 0, done.stderr
    assert ("/a/later" in table(done.stdout)) is seen


def test_files_are_bound_and_places_are_made(either, tmp_path):
    (tmp_path / "file").write_text("of the host\n")
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory/inner").write_text("inner\n")
    (either.bundle / "relative").write_text("beside the bundle\n")

    def change(config):
        config["mounts"] += [
            bound(tmp_path / "file", "/made/on/the/way"),
            bound(tmp_path / "directory", "/made/too"),
            bound(tmp_path / "file", "/made/too/inner"),  # onto a file of an earlier mount
            {**bound("relative", "/of/the/bundle"), "type": "bind"},
        ]

    done = either.run("cat", "/made/on/the/way", "/made/too/inner", "/of/the/bundle", change=change)
    assert done.stdout == "of the host\nof the host\nbeside the bundle\n", done.stderr


def test_a_bind_mount_takes_a_file_systems_options_as_the_kernel_does(either, tmp_path):
    found = mounted(either, bound(tmp_path, "/a", "rbind", "mode=755", "size=65536k"))
    assert "/a" in found


def test_a_destination_without_a_slash_starts_at_the_root(either):
    assert "/here" in mounted(either, tmpfs("here"))


def test_a_later_mount_covers_an_earlier_one(either):
    def change(config):
        config["mounts"] += [tmpfs("/a", "size=4k"), tmpfs("/a/b"), tmpfs("/a", "size=8k")]

    done = either.run("sh", "-c", "ls -A /a; grep -c ' /a' /proc/self/mountinfo", change=change)
    assert done.stdout == "3\n", done.stderr


def tree(directory):
    """Three directories to bind, and the mounts that make one tree of them, in which later ones take part again."""
    for name in ("a/x", "b/y", "c/z"):
        (directory / "source" / name).mkdir(parents=True)
        (directory / "source" / name / "file").write_text(f"{name}\n")
    (directory / "source/link").symlink_to("b")
    (directory / "source").chmod(0o700)
    return directory / "source"


FOUND = "/final/x/y/z/z/x/y/z/x/file"


def of_the_root(source, root, **more):
    rbind = {"type": "bind", "options": ["rbind"], **more}
    return [
        bound(source / "a", "/mnt"),
        bound(source / "link", "/mnt/x"),
        bound(source / "c", "/mnt/x/y"),
        bound(source / "a", "/mnt/x/y/z"),
        {"source": f"{root}/mnt/x", "destination": f"{root}/mnt/x/y/z/x", **rbind},
        {"source": f"{root}/mnt/x/y", "destination": f"{root}/mnt/x/y/z", **rbind},
        {"source": f"{root}/mnt", "destination": f"{root}/final", **rbind},
    ]


def test_a_destination_that_begins_with_the_root_on_the_host_is_below_it(runtime):
    assert "/here" in mounted(runtime, tmpfs(f"{runtime.bundle}/rootfs/here"))


def test_what_earlier_mounts_made_of_the_root_is_bound_as_they_made_it(runtime, tmp_path):
    mounts = of_the_root(tree(tmp_path), runtime.bundle / "rootfs")
    done = runtime.run("cat", FOUND, change=lambda c: c["mounts"].extend(mounts))
    assert done.stdout == "a/x\n", done.stderr


@pytest.mark.parametrize("option", [[], ["idmap"]], ids=["", "mapped"])
def test_what_earlier_mounts_made_of_the_root_is_bound_in_a_user_namespace(mapped, option):
    def change(config):
        config["linux"]["namespaces"].append({"type": "user"})
        config["linux"].update(uidMappings=IDS, gidMappings=IDS)
        owners = {"uidMappings": IDS, "gidMappings": IDS} if option else {}
        source = tree(mapped.bundle.parent)
        config["mounts"] += of_the_root(source, mapped.bundle / "rootfs", options=["rbind", *option], **owners)

    done = mapped.run("cat", FOUND, change=change)
    assert done.stdout == "a/x\n", done.stderr


def test_owners_of_what_earlier_mounts_made_are_mapped(runtime, owned):
    root = runtime.bundle / "rootfs"
    mount = {**bound(root / "b", "/a", "idmap"), "uidMappings": [{"containerID": 7, "hostID": 1007, "size": 1}]}
    mount["gidMappings"] = [{"containerID": 0, "hostID": 50, "size": 10}]
    done = runtime.run(*OWNERS, change=lambda c: c["mounts"].extend([bound(owned, "/b"), mount]))
    assert done.stdout.splitlines() == ["65534 50", "1007 57"], done.stderr


def test_a_tmpfs_takes_up_what_the_image_has_there(either):
    place = either.bundle / "rootfs/data"
    (place / "below").mkdir(parents=True)
    (place / "file").write_text("kept\n")
    (place / "below/deep").write_text("deep\n")
    (place / "link").symlink_to("below/deep")
    os.chown(place / "file", 7, 8)
    (place / "file").chmod(0o646)
    script = "cat /data/file /data/link; stat -c '%u %g %a' /data/file; echo new > /data/file; grep -c ' /data ' /proc/self/mountinfo"
    done = either.run("sh", "-c", script, change=lambda c: c["mounts"].append(tmpfs("/data", "tmpcopyup")))
    assert done.stdout == "kept\ndeep\n7 8 646\n1\n", done.stderr
    assert (place / "file").read_text() == "kept\n"


def test_a_tmpfs_has_the_mode_of_what_it_covers_unless_it_has_one_of_its_own(either):
    for name in ("plain", "given", "copied", "both"):
        (either.bundle / "rootfs" / name).mkdir()
        (either.bundle / "rootfs" / name).chmod(0o2751)
    options = {"/plain": [], "/given": ["mode=700"], "/copied": ["tmpcopyup"], "/both": ["tmpcopyup", "mode=1777"]}
    options |= {"/new": [], "/newer": ["mode=711", "tmpcopyup"]}
    mounts = [tmpfs(place, *words) for place, words in options.items()]
    done = either.run("stat", "-c", "%n %a", *options, change=lambda c: c["mounts"].extend(mounts))
    found = dict(line.split() for line in done.stdout.splitlines())
    wanted = {"/plain": "2751", "/given": "700", "/copied": "2751", "/both": "1777", "/new": "1777", "/newer": "711"}
    if either.program == "runc":  # 1.1 gives no mode a chance; later ones do
        wanted |= {"/given": "2751", "/both": "2751"}
    assert found == wanted


def test_a_mount_is_changed_by_remount(either):
    def change(config):
        config["mounts"] += [tmpfs("/a", "size=64k"), bound("/usr/share", "/b")]
        config["mounts"].append(
            {"destination": "/a", "type": "tmpfs", "source": "tmpfs", "options": ["remount", "size=128k", "nosuid"]}
        )
        config["mounts"].append(bound("/usr/share", "/b", "remount", "ro", "noexec"))

    done = either.run("cat", "/proc/self/mountinfo", change=change)
    assert done.returncode == 0, done.stderr
    found = table(done.stdout)
    assert found["/a"][0] & ATTRIBUTES == {"nosuid", "relatime"}
    assert "size=128k" in found["/a"][3].split(",")
    assert found["/b"][0] & ATTRIBUTES - {"relatime"} == {"ro", "noexec"}


def test_a_remount_changes_what_is_below_too(runtime, tmp_path):
    below = bound(tmp_path, "/b", "rbind"), tmpfs("/b/c"), bound("/b", "/b", "remount", "bind", "rro", "rnosuid")
    found = mounted(runtime, *below)
    assert {place: found[place][0] & ATTRIBUTES - {"relatime"} for place in ("/b", "/b/c")} == {
        "/b": {"ro", "nosuid"},
        "/b/c": {"ro", "nosuid"},
    }


IDS = [{"containerID": 0, "hostID": 100000, "size": 65536}]
OWNERS = ("stat", "-c", "%u %g", "/a/zero", "/a/seven")


@pytest.fixture
def owned(tmp_path):
    """A directory with files of root and of user 7."""
    for name, owner in (("zero", 0), ("seven", 7)):
        (tmp_path / "owned").mkdir(exist_ok=True)
        (tmp_path / "owned" / name).touch()
        os.chown(tmp_path / "owned" / name, owner, owner)
    tmp_path.chmod(0o711)
    return tmp_path / "owned"


def test_a_mapped_mount_shows_other_owners(runtime, owned):
    mount = {**bound(owned, "/a", "idmap"), "uidMappings": [{"containerID": 7, "hostID": 1007, "size": 1}]}
    mount["gidMappings"] = [{"containerID": 0, "hostID": 50, "size": 10}]
    done = runtime.run(*OWNERS, change=lambda c: c["mounts"].append(mount))
    assert done.stdout.splitlines() == ["65534 50", "1007 57"], done.stderr
    assert runtime.traces() == []


def test_a_mapped_mount_takes_the_containers_mapping(mapped, tmp_path, owned):
    def change(config):
        config["linux"]["namespaces"].append({"type": "user"})
        config["linux"].update(uidMappings=IDS, gidMappings=IDS)
        config["mounts"].append(bound(owned, "/a", "idmap", "ro"))

    done = mapped.run("sh", "-c", f"{' '.join(OWNERS[:2])} '%u %g' /a/zero /a/seven; echo x > /a/zero", change=change)
    assert done.stdout.splitlines() == ["0 0", "7 7"], done.stderr
    assert "Read-only file system" in done.stderr


@pytest.mark.skipif(tuple(map(int, os.uname().release.split(".")[:2])) < (6, 3), reason="this kernel maps no tmpfs")
@pytest.mark.needs("unshare")
@pytest.mark.parametrize(("option", "owner"), [("ridmap", "1000"), ("idmap", "0")])
def test_a_mapping_reaches_the_mounts_below_on_demand(runtime, tmp_path, option, owner):
    (tmp_path / "source/below").mkdir(parents=True)
    ids = [{"containerID": 0, "hostID": 1000, "size": 10}]
    mount = {**bound(tmp_path / "source", "/a", "rbind", option), "uidMappings": ids, "gidMappings": ids}
    runtime.configure("stat", "-c", "%u", "/a", "/a/below", change=lambda c: c["mounts"].append(mount))
    script = f'mount -t tmpfs tmpfs {tmp_path}/source/below && "$@"'
    done = runtime.run_within(script)
    assert done.stdout.split() == ["1000", owner], done.stderr


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        (bound("/usr", "/a", "idmap"), "needs uidMappings and gidMappings, or a user namespace of the container"),
        ({**bound("/usr", "/a"), "uidMappings": IDS}, "needs gidMappings beside it"),
        ({**tmpfs("/a", "idmap"), "uidMappings": IDS, "gidMappings": IDS}, "only a bind mount can be mapped"),
        ({"destination": "/a"}, "needs a type, or the option bind"),
        ({"destination": "/a", "options": ["rbind"]}, "a bind mount needs a source"),
        (bound("/nope", "/a"), "bind: /nope: open_tree: No such file or directory"),
        (bound("/usr", "/bin/busybox"), "bind: /bin/busybox: openat2: Not a directory"),
        ({"destination": "/a", "type": "tmpfs", "options": ["nosuch"]}, "filesystem: fsconfig: Invalid argument: tmpfs: Unknown parameter 'nosuch'"),
        ({"destination": "/a", "type": "proc", "options": ["tmpcopyup"]}, "tmpcopyup is for tmpfs"),
    ],
)  # fmt: skip
def test_a_mount_that_cannot_be_is_named_and_leaves_nothing(runtime, mount, message):
    done = runtime.run("true", change=lambda c: c["mounts"].append(mount))
    line = done.stderr.splitlines()[0]
    assert done.returncode == 1
    assert line.startswith("veloci-runtime run failed: config.json: $.mounts[7]")
    assert line.endswith(f": {message}")
    assert runtime.traces() == []
