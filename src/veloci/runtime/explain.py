"""A plan in words: what each of its steps does to the kernel, and why.

Takes a plan, gives for each step its place in config.json, its system calls and its reason. A
container is this list and nothing else: see `veloci-runtime plan`.
"""

from __future__ import annotations

from veloci.kernel import mount as m
from veloci.runtime import outside
from veloci.runtime.calls import ASKED, LAST, NAMESPACES, STEPS, Unknown, names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from veloci.runtime.outside import Entry
    from veloci.runtime.plan import Plan
    from veloci.runtime.state import Saved
    from veloci.spec.runtime import Config, Hooks

JOINED = "this namespace is another's, and exists; the process is made there"
CLONED = "a process in all its new namespaces at once"


def explained(plan: Plan, config: Config, saved: Saved) -> Iterator[Entry]:
    """Each step of `plan` in its order, as {step, at, calls, why}: at is the place in config.json, "" for none.

    config, saved: what it was made of, and what is known of the container: the runtime's part depends on them. Its
    calls begin with "the runtime:"; up to the next step that asks they are made while the process does its own.
    """
    yield from outside.before(config, saved, plan)
    for path, bit, at in plan["join"]:
        calls = f"open({path!r}), setns({names(bit, NAMESPACES)})"
        yield outside.entry("join", at, calls, JOINED)
    bits = names(plan["clone"], NAMESPACES).removeprefix("0")
    born = "" if saved.scope or "" not in saved.cgroups else "CLONE_INTO_CGROUP"
    words = "|".join(filter(None, (bits, born))) or "0"
    yield outside.entry(
        "clone", "$.linux.namespaces", f"clone3({words})", "a process in all its new namespaces at once"
    )
    yield from outside.score(config)
    own = outside.own_users(plan)
    if not own:
        yield from outside.beside(config, saved, plan)
    hidden = "umask(0)" if own else "prctl(PR_SET_DUMPABLE, 0), umask(0)"
    calls = f"{hidden}, sched_setaffinity(every processor of its cpuset)"
    yield outside.entry("apart", "", calls, "nothing of the caller's, and nobody may look into it")
    late: list[str] = []
    for step, at, arguments in plan["steps"]:
        if step == "ask" and arguments["question"] == "cgroup" and own:
            yield from outside.beside(config, saved, plan)
        if arguments.get("set", 0) & m.MOUNT_ATTR_RDONLY and _is_late(step, arguments):  # type: ignore[operator]
            late.append(str(arguments["target"]))
        yield _step(step, at, {**arguments, "late": late}, config.hooks)
    yield from _last(plan, config)
    yield from outside.after(config.hooks)


def _is_late(step: str, arguments: dict[str, Any]) -> bool:
    """Whether it is made read-only by `seal`: what is mounted or made in it needs a writable one."""
    if step == "filesystem":
        return bool(arguments["kind"] == "tmpfs")
    return step in ("bind", "opened", "mapped", "inside", "remount")


def _step(step: str, at: str, arguments: dict[str, Any], hooks: Hooks | None) -> Entry:
    if step == "ask":
        question = str(arguments["question"])
        calls, why = ASKED[question]
        if question == "hooks" and hooks:
            calls = outside.called((*hooks.prestart, *hooks.create_runtime))
        return outside.entry(f"ask {question}", at, f"the runtime: {calls}", why)
    say, why = STEPS[step]
    calls = f"fchdir, {outside.called(hooks.create_container)}" if step == "hooks" and hooks else say(arguments)
    return outside.entry(step, at, calls, why)


def _last(plan: Plan, config: Config) -> Iterator[Entry]:
    """From a process that is whole to its program."""
    program, seccomp, hooks = plan["args"][0], config.linux.seccomp, config.hooks
    for word in ("find", "stub", "close"):
        at = "$.process.args[0]" if word == "find" else ""
        calls, why = LAST[word]
        yield outside.entry(word, at, calls.format(program=repr(program)), why)
    listens = seccomp is not None and any(rule.action == "SCMP_ACT_NOTIFY" for rule in seccomp.syscalls)
    privileged = any(step == "capabilities" and arguments["keep"] for step, _, arguments in plan["steps"])
    waits = bool(hooks and hooks.start_container)
    if listens:
        yield _step("filter", "$.linux.seccomp", {}, None)
        yield outside.entry(
            "listener", "$.linux.seccomp.listenerPath", "the runtime: pidfd_getfd, connect, sendmsg(SCM_RIGHTS)"
        )
    yield outside.entry("ready", "", "the runtime: write(state.json), write(quick)")
    if seccomp and not listens and (privileged or waits):
        yield _step("filter", "$.linux.seccomp", {}, None)
    if waits and hooks:
        yield outside.entry(
            "start hooks", "$.hooks.startContainer", f"read(exec.fifo), {outside.called(hooks.start_container)}"
        )
    calls, why = LAST["wait"]
    yield outside.entry("wait", "", calls.partition(", ")[0] if waits else calls, why)
    if seccomp and not listens and not privileged and not waits:
        yield _step("filter", "$.linux.seccomp", {}, None)
    calls, why = LAST["exec"]
    yield outside.entry("exec", "$.process.args", calls.format(program=f"{program!r}, {plan['args']}"), why)


def about(step: str) -> tuple[str, str]:
    """What a step of this name does in general, and why; two empty strings if there is none."""
    if step in STEPS:
        say, why = STEPS[step]
        return say(Unknown()), why
    if step in LAST:
        calls, why = LAST[step]
        return calls.format(program="..."), why
    question = step.removeprefix("ask ")
    if step != question and question in ASKED:
        calls, why = ASKED[question]
        return f"the runtime: {calls}", why
    return {"join": ("setns", JOINED), "clone": ("clone3", CLONED)}.get(step) or outside.PARTS.get(step, ("", ""))
