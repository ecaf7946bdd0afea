"""Pods as a kubelet asks for them, for tests: what it says in a call, and looks at afterwards."""

import os
import re
import time
import uuid
from pathlib import Path

import cri

CREATED, RUNNING, EXITED = 0, 1, 2  # ContainerState


class Pods:
    """Pods of one runtime, removed in the end."""

    def __init__(self, client, runtime, logs):
        self.client, self.runtime, self.logs, self.made = client, runtime, logs, []

    def pod(self, *, security=None, **config):
        metadata = {"name": f"pod{len(self.made)}", "uid": str(uuid.uuid4()), "namespace": "tests", "attempt": 0}
        linux = {
            "cgroup_parent": f"/vcri-{os.getpid()}",
            "security_context": security or {},
            "sysctls": config.pop("sysctls", {}),
        }
        wanted = {"metadata": metadata, "log_directory": str(self.logs), "linux": linux, **config}
        answer = self.client.RunPodSandbox(config=wanted, runtime_handler=self.runtime)
        self.made.append(answer["pod_sandbox_id"])
        return Pod(self.client, answer["pod_sandbox_id"], wanted)

    def close(self):
        for id in self.made:
            self.client.StopPodSandbox(pod_sandbox_id=id)
            self.client.RemovePodSandbox(pod_sandbox_id=id)


class Pod:
    def __init__(self, client, id, config):
        self.client, self.id, self.config, self.count = client, id, config, 0

    def status(self):
        return self.client.PodSandboxStatus(pod_sandbox_id=self.id)["status"]

    def create(self, *command, security=None, resources=None, **more):
        self.count += 1
        linux = {"security_context": security or {}, "resources": resources or {}}
        config = {"metadata": {"name": f"box{self.count}"}, "image": {"image": "docker.io/library/shell:v0"}, **more}
        config |= {"command": command, "log_path": f"{self.id[:8]}-{self.count}.log", "linux": linux}
        answer = self.client.CreateContainer(pod_sandbox_id=self.id, config=config, sandbox_config=self.config)
        return Box(self.client, answer["container_id"])

    def start(self, *command, **more):
        box = self.create(*command, **more)
        self.client.StartContainer(container_id=box.id)
        return box

    def said(self, script, **more):
        """What a container prints that does so and ends: its lines, without their streams' names."""
        box = self.start("sh", "-c", script, **more)
        box.ended()
        return [text for _, text in box.log()]


class Box:
    def __init__(self, client, id):
        self.client, self.id = client, id

    def status(self):
        return self.client.ContainerStatus(container_id=self.id)["status"]

    def ended(self, seconds=30):
        end = time.monotonic() + seconds
        while (status := self.status())["state"] != EXITED:
            assert time.monotonic() < end, status
            time.sleep(0.05)
        return status

    def exec(self, *command, timeout=20):
        return self.client.ExecSync(container_id=self.id, cmd=command, timeout=timeout)

    def log(self):
        """(stream, text) of each line."""
        lines = Path(self.status()["log_path"]).read_text().splitlines()
        stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(?:Z|[+-]\d\d:\d\d)"
        return [re.fullmatch(rf"{stamp} (stdout|stderr) F (.*)", line).groups() for line in lines]

    def says(self, line):
        """Wait until its log has it."""
        for _ in range(200):
            if line in self.log():
                return
            time.sleep(0.05)
        raise AssertionError(self.log())

    def group(self, controller, v1, v2):
        """What a file of its cgroup on the host says."""
        whole = self.client.ContainerStatus(container_id=self.id, verbose=True)
        rows = [line.split(":", 2) for line in Path(f"/proc/{cri.info(whole)['pid']}/cgroup").read_text().splitlines()]
        if Path("/sys/fs/cgroup/cgroup.controllers").exists():
            return Path(f"/sys/fs/cgroup{rows[0][2]}/{v2}").read_text().strip()
        path = next(path for _, names, path in rows if controller in names.split(","))
        return Path(f"/sys/fs/cgroup/{controller}{path}/{v1}").read_text().strip()
