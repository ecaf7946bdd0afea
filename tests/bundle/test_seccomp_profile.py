"""Seccomp profiles in docker's form."""

import pytest

from veloci.bundle.seccomp import profile as default
from veloci.bundle.seccomp_profile import translated
from veloci.errors import InvalidInput

PROFILE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "", "includes": {}, "excludes": {}},
        {"name": "write", "action": "SCMP_ACT_ALLOW"},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {
            "names": ["clone"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 38,
            "excludes": {"caps": ["CAP_SYS_ADMIN"]},
            "args": [{"index": 0, "value": 1, "valueTwo": None, "op": "SCMP_CMP_EQ"}],
        },
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["arm_sync"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
        {"names": ["modify_ldt"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["arm64"]}},
        {"names": ["old"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "5.1"}},
    ],
}


def names(capabilities, machine="x86_64", release="6.1.0-13-amd64"):
    found = translated(PROFILE, capabilities, machine=machine, release=release)
    return [rule["names"][0] for rule in found["syscalls"]]


def test_rules_hold_for_some_capabilities_architectures_and_kernels():
    assert names(()) == ["read", "write", "clone", "ptrace", "modify_ldt"]
    assert names(("CAP_SYS_ADMIN",)) == ["read", "write", "mount", "ptrace", "modify_ldt"]
    assert names((), release="4.4") == ["read", "write", "clone", "modify_ldt", "old"]
    assert names((), machine="aarch64") == ["read", "write", "clone", "ptrace", "arm_sync"]


def test_what_comes_out_is_the_specification_s_form():
    found = translated(PROFILE, (), machine="x86_64", release="6.1")
    assert found["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert (found["defaultAction"], found["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 1)
    assert found["syscalls"][2] == {
        "names": ["clone"],
        "action": "SCMP_ACT_ERRNO",
        "errnoRet": 38,
        "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}],
    }
    assert translated({}, ()) is None


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ([], "the profile is not a JSON object"),
        ({"syscalls": [{"names": ["read"]}]}, "the profile has no defaultAction"),
        (
            {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["a"], "archMap": [{}]},
            "the profile has both architectures and archMap",
        ),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {"a": 1}}, "syscalls is not a list of objects"),
    ],
)
def test_a_wrong_profile_is_refused(profile, message):
    with pytest.raises(InvalidInput) as failure:
        translated(profile, ())
    assert str(failure.value) == f"--security-opt seccomp: {message}"


@pytest.mark.parametrize("call", ["pidfd_getfd", "process_madvise", "kcmp"])
def test_what_reaches_into_other_processes_needs_the_capability_as_with_docker(call):
    def allowed(*capabilities):
        return {name for rule in default(capabilities)["syscalls"] for name in rule["names"]}

    assert call not in allowed("CAP_CHOWN", "CAP_SYS_ADMIN")
    assert call in allowed("CAP_SYS_PTRACE")
