"""intelRdt: what a container without the hardware is told, and the files of resctrl, here on directories as it has.

No host of the tests has the hardware, nor does qemu emulate it: that the kernel takes what is written is not shown.
"""

import os
from pathlib import Path

import pytest

from veloci.errors import Conflict, HostError, NotFound, Unsupported
from veloci.runtime import rdt
from veloci.spec.runtime import IntelRdt

AT = "config.json: $.linux.intelRdt"


@pytest.fixture
def resctrl(tmp_path):
    """A directory with what resctrl has on a processor with two caches, and a class "gold"."""
    for name in ("info/L3", "info/MB", "info/L3_MON", "mon_groups", "gold/mon_groups"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "info/last_cmd_status").write_text("ok\n")
    for group in (tmp_path, tmp_path / "gold"):
        (group / "tasks").write_text("")
        (group / "schemata").write_text("    MB:0=100;1= 50\n    L3:0=000ff;1=fffff\n")
    return tmp_path


def planned(resctrl, **fields):
    return rdt.Planned(IntelRdt(**fields), "box", str(resctrl))


def names(resctrl, directories):
    return [str(Path(directory).relative_to(resctrl)) for directory in directories]


@pytest.mark.needs("root", "namespaces", "busybox")
@pytest.mark.skipif(bool(rdt.mounted()), reason="this host has it")
@pytest.mark.parametrize("values", [{}, {"closID": "x"}, {"l3CacheSchema": "L3:0=f"}, {"enableMonitoring": True}])
def test_a_host_without_it_is_named_before_there_is_a_process(runtime, values):
    done = runtime.run("true", change=lambda config: config["linux"].update(intelRdt=values))
    assert f"{AT}: intelRdt is specified in config, but Intel RDT is not enabled" in done.stderr
    assert done.returncode == 1
    assert runtime.traces() == []


def test_a_class_of_the_containers_own_goes_with_it(resctrl):
    found = planned(resctrl, l3_cache_schema="L3:0=f", enable_monitoring=True)
    assert names(resctrl, found.tasks) == ["box", "box/mon_groups/box"]
    assert found.own == found.tasks


def test_a_class_with_a_name_stays_and_its_monitoring_goes(resctrl):
    found = planned(resctrl, clos_id="silver", mem_bw_schema="MB:0=20")
    assert (names(resctrl, found.tasks), found.own) == (["silver"], [])
    found = planned(resctrl, clos_id="gold", enable_monitoring=True)
    assert names(resctrl, found.tasks) == ["gold", "gold/mon_groups/box"]
    assert names(resctrl, found.own) == ["gold/mon_groups/box"]


def test_the_root_is_the_default_class(resctrl):
    assert planned(resctrl, clos_id="/").tasks == [str(resctrl)]


def test_a_class_that_another_made_under_our_id_is_left_to_it(resctrl):
    (resctrl / "box").mkdir()
    assert planned(resctrl).own == []


def test_a_named_class_without_values_must_be_there(resctrl):
    with pytest.raises(NotFound) as raised:
        planned(resctrl, clos_id="silver")
    assert str(raised.value).startswith(f"{AT}.closID: {resctrl}/silver does not exist")


@pytest.mark.parametrize(
    ("field", "schema", "fits"),
    [
        ("l3_cache_schema", "L3:0=ff", True),
        ("l3_cache_schema", "L3:1=fffff;0=ff", True),
        ("l3_cache_schema", "L3:0=f", False),
        ("l3_cache_schema", "L3:2=ff", False),
        ("mem_bw_schema", "MB:1=50", True),
        ("mem_bw_schema", "MB:1=20", False),
        ("mem_bw_schema", "MB:1", False),
    ],
)
def test_a_class_that_is_there_must_have_the_values(resctrl, field, schema, fits):
    if fits:
        planned(resctrl, clos_id="gold", **{field: schema})
        return
    with pytest.raises(Conflict, match=f"has other values than '{schema}'"):
        planned(resctrl, clos_id="gold", **{field: schema})


@pytest.mark.parametrize(
    ("gone", "field", "place"),
    [
        ("L3", {"l3_cache_schema": "L3:0=f"}, "l3CacheSchema: Intel RDT/CAT is not enabled"),
        ("MB", {"mem_bw_schema": "MB:0=20"}, "memBwSchema: Intel RDT/MBA is not enabled"),
        ("L3_MON", {"enable_monitoring": True}, "enableMonitoring: Intel RDT monitoring is not enabled"),
    ],
)
def test_a_part_that_the_processor_lacks_is_named(resctrl, gone, field, place):
    (resctrl / "info" / gone).rmdir()
    with pytest.raises(Unsupported) as raised:
        planned(resctrl, **field)
    assert str(raised.value) == f"{AT}.{place}"


def test_values_are_written_in_their_order_and_the_process_entered(resctrl):
    group = (str(resctrl / "gold"),)
    wanted = IntelRdt(mem_bw_schema="MB:0=20", schemata=("L2:0=f", "L3:1=f"), l3_cache_schema="L3:0=ff")
    rdt.make(wanted, group, os.getpid())
    written = (resctrl / "gold/schemata").read_text()
    assert written.startswith("L3:0=ff\nMB:0=20\nL2:0=f\nL3:1=f\n")
    assert (resctrl / "gold/tasks").read_text() == str(os.getpid())


def test_without_values_the_schemata_are_left_alone(resctrl):
    before = (resctrl / "gold/schemata").read_text()
    rdt.make(IntelRdt(), (str(resctrl / "gold"),), 1)
    assert (resctrl / "gold/schemata").read_text() == before


def test_directories_are_made_and_removed(resctrl):
    found = planned(resctrl, enable_monitoring=True)
    with pytest.raises(HostError, match=r"make .*/mon_groups/box: No such file"):  # the kernel would make mon_groups
        rdt.make(found.rdt, tuple(found.tasks), 1)
    assert (resctrl / "box").is_dir()
    rdt.remove(found.own)
    rdt.remove(found.own)
    assert not (resctrl / "box").exists()


def test_an_error_says_what_resctrl_says_of_it(resctrl):
    (resctrl / "info/last_cmd_status").write_text("Mask out of range\n")
    error = rdt.failed("write", OSError(22, "Invalid argument"), str(resctrl), AT)
    assert str(error) == f"{AT}: write: Invalid argument, last_cmd_status: Mask out of range"


@pytest.mark.needs("root", "namespaces", "busybox")
@pytest.mark.skipif(bool(rdt.mounted()), reason="this host has it")
def test_an_update_without_it_is_refused(either):
    either.detached("sleep", "100")
    for flag, text in (("--l3-cache-schema", "Intel RDT/CAT: l3 cache"), ("--mem-bw-schema", "Intel RDT/MBA: memory")):
        done = either("update", flag, "L3:0=f", either.id)
        assert text in done.stderr
        assert done.returncode == 1
