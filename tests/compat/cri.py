"""A client of Kubernetes' container runtime interface, version 1, as far as the tests go: calls take and give dicts.

gRPC over HTTP/2 on a Unix socket, one call at a time, without threads: other tests fork and enter namespaces in this
process. Messages are protocol buffers; of each only the fields that the tests use are here, others are passed over.
"""

import json
import socket

import h2.config
import h2.connection
import h2.events

# message: its fields as "number name type"; a type with * is repeated, `map` is one of strings to strings
_MESSAGES = """
VersionResponse: 1 version str, 2 runtime_name str, 3 runtime_version str, 4 runtime_api_version str
StatusRequest: 1 verbose bool
StatusResponse: 1 status RuntimeStatus, 2 info map
RuntimeStatus: 1 conditions RuntimeCondition*
RuntimeCondition: 1 type str, 2 status bool, 3 reason str, 4 message str
RunPodSandboxRequest: 1 config PodSandboxConfig, 2 runtime_handler str
RunPodSandboxResponse: 1 pod_sandbox_id str
StopPodSandboxRequest: 1 pod_sandbox_id str
RemovePodSandboxRequest: 1 pod_sandbox_id str
PodSandboxStatusRequest: 1 pod_sandbox_id str, 2 verbose bool
PodSandboxStatusResponse: 1 status PodSandboxStatus, 2 info map
PodSandboxStatus: 1 id str, 2 metadata PodSandboxMetadata, 3 state int, 5 network PodNetwork, 9 runtime_handler str
PodNetwork: 1 ip str
ListPodSandboxResponse: 1 items PodSandbox*
PodSandbox: 1 id str, 2 metadata PodSandboxMetadata, 3 state int, 7 runtime_handler str
PodSandboxConfig: 1 metadata PodSandboxMetadata, 2 hostname str, 3 log_directory str, 4 dns_config DNSConfig,\
 5 port_mappings PortMapping*, 6 labels map, 7 annotations map, 8 linux LinuxPodSandboxConfig
PodSandboxMetadata: 1 name str, 2 uid str, 3 namespace str, 4 attempt int
DNSConfig: 1 servers str*, 2 searches str*, 3 options str*
PortMapping: 1 protocol int, 2 container_port int, 3 host_port int, 4 host_ip str
LinuxPodSandboxConfig: 1 cgroup_parent str, 2 security_context SandboxSecurity, 3 sysctls map
SandboxSecurity: 1 namespace_options Namespaces, 3 run_as_user Number, 4 readonly_rootfs bool, 6 privileged bool,\
 9 seccomp Profile
Namespaces: 1 network int, 2 pid int, 3 ipc int, 4 target_id str
Number: 1 value int
Profile: 1 profile_type int, 2 localhost_ref str
CreateContainerRequest: 1 pod_sandbox_id str, 2 config ContainerConfig, 3 sandbox_config PodSandboxConfig
CreateContainerResponse: 1 container_id str
ContainerConfig: 1 metadata ContainerMetadata, 2 image ImageSpec, 3 command str*, 4 args str*, 5 working_dir str,\
 6 envs KeyValue*, 7 mounts Mount*, 8 devices Device*, 9 labels map, 10 annotations map, 11 log_path str,\
 12 stdin bool, 14 tty bool, 15 linux LinuxContainerConfig
ContainerMetadata: 1 name str, 2 attempt int
ImageSpec: 1 image str
KeyValue: 1 key str, 2 value str
Mount: 1 container_path str, 2 host_path str, 3 readonly bool, 5 propagation int
Device: 1 container_path str, 2 host_path str, 3 permissions str
LinuxContainerConfig: 1 resources Resources, 2 security_context ContainerSecurity
Resources: 1 cpu_period int, 2 cpu_quota int, 3 cpu_shares int, 4 memory_limit_in_bytes int, 5 oom_score_adj int,\
 6 cpuset_cpus str, 7 cpuset_mems str
ContainerSecurity: 1 capabilities Capabilities, 2 privileged bool, 3 namespace_options Namespaces, 5 run_as_user Number,\
 6 run_as_username str, 7 readonly_rootfs bool, 8 supplemental_groups int*, 11 no_new_privs bool,\
 12 run_as_group Number, 13 masked_paths str*, 14 readonly_paths str*, 15 seccomp Profile
Capabilities: 1 add_capabilities str*, 2 drop_capabilities str*
StartContainerRequest: 1 container_id str
StopContainerRequest: 1 container_id str, 2 timeout int
RemoveContainerRequest: 1 container_id str
ListContainersRequest: 1 filter ContainerFilter
ContainerFilter: 1 id str, 3 pod_sandbox_id str, 4 label_selector map
ListContainersResponse: 1 containers Container*
Container: 1 id str, 2 pod_sandbox_id str, 3 metadata ContainerMetadata, 6 state int, 8 labels map
ContainerStatusRequest: 1 container_id str, 2 verbose bool
ContainerStatusResponse: 1 status ContainerStatus, 2 info map
ContainerStatus: 1 id str, 2 metadata ContainerMetadata, 3 state int, 4 created_at int, 5 started_at int,\
 6 finished_at int, 7 exit_code int, 10 reason str, 11 message str, 14 mounts Mount*, 15 log_path str
UpdateContainerResourcesRequest: 1 container_id str, 2 linux Resources
ReopenContainerLogRequest: 1 container_id str
ExecSyncRequest: 1 container_id str, 2 cmd str*, 3 timeout int
ExecSyncResponse: 1 stdout str, 2 stderr str, 3 exit_code int
ExecRequest: 1 container_id str, 2 cmd str*, 3 tty bool, 4 stdin bool, 5 stdout bool, 6 stderr bool
ExecResponse: 1 url str
AttachRequest: 1 container_id str, 2 stdin bool, 3 tty bool, 4 stdout bool, 5 stderr bool
AttachResponse: 1 url str
ContainerStatsRequest: 1 container_id str
ContainerStatsResponse: 1 stats ContainerStats
ContainerStats: 1 attributes ContainerAttributes, 2 cpu CpuUsage, 3 memory MemoryUsage
ContainerAttributes: 1 id str, 2 metadata ContainerMetadata
CpuUsage: 1 timestamp int, 2 usage_core_nano_seconds Number
MemoryUsage: 1 timestamp int, 2 working_set_bytes Number
"""


def _schema(text):
    """{message: {field: (number, type, repeated)}}"""
    found = {}
    for line in text.strip().splitlines():
        message, _, fields = line.partition(": ")
        rows = [field.split() for field in fields.split(", ")]
        found[message] = {name: (int(number), kind.rstrip("*"), kind.endswith("*")) for number, name, kind in rows}
    return found


SCHEMA = _schema(_MESSAGES)
SCHEMA["map"] = {"key": (1, "str", False), "value": (2, "str", False)}


def _varint(number):
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _one(number, kind, value):
    """A field with its tag."""
    if kind in ("int", "bool"):
        return _varint(number << 3) + _varint(int(value))
    data = value.encode() if kind == "str" else encode(kind, value)
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def encode(message, value):
    """The bytes of a message; raises KeyError for a field that it has not."""
    out = []
    for name, given in value.items():
        number, kind, repeated = SCHEMA.get(message, {})[name]
        if kind == "map" and message != "map":
            out += [_one(number, "map", {"key": key, "value": text}) for key, text in given.items()]
        else:
            out += [_one(number, kind, item) for item in (given if repeated else [given])]
    return b"".join(out)


def decode(message, data):
    """A message's fields; those that were not sent have their type's zero, messages among them are {}."""
    fields = SCHEMA.get(message, {})
    names = {number: name for name, (number, _, _) in fields.items()}
    zeros = {"int": 0, "bool": False, "str": ""}
    found = {name: [] if repeated else zeros.get(kind, {}) for name, (_, kind, repeated) in fields.items()}
    at = 0

    def varint():
        nonlocal at
        shift = number = 0
        while True:
            byte, at = data[at], at + 1
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number

    while at < len(data):
        tag = varint()
        size = {0: 0, 1: 8, 5: 4}.get(tag & 7)
        value = varint() if tag & 7 in (0, 2) else None
        if tag & 7:
            size = value if size is None else size
            value, at = data[at : at + size], at + size
        if (name := names.get(tag >> 3)) is None:
            continue
        _, kind, repeated = fields[name]
        if kind == "int":
            value -= (value >> 63) << 64
        elif kind == "bool":
            value = bool(value)
        elif kind == "str":
            value = value.decode(errors="replace")
        else:
            value = decode(kind, value)
        if kind == "map":
            found[name] = {**found[name], value["key"]: value["value"]}
        else:
            found[name] = [*found[name], value] if repeated else value
    return found


class Failed(Exception):
    """A call that the server answered with an error: `code` is gRPC's, `message` its words."""

    def __init__(self, method, code, message):
        super().__init__(f"{method}: {message} (code {code})")
        self.code, self.message = code, message


class Client:
    """Calls of a runtime's socket; a method's name is an attribute: `client.Version()`."""

    def __init__(self, path):
        self.path = str(path)

    def __getattr__(self, method):
        return lambda **fields: self._call(method, fields)

    def _call(self, method, fields):
        """The response's fields. Raises Failed."""
        request = encode(f"{method}Request", fields)
        http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        http.initiate_connection()
        head = {":method": "POST", ":scheme": "http", ":path": f"/runtime.v1.RuntimeService/{method}"}
        head |= {":authority": "localhost", "content-type": "application/grpc", "te": "trailers"}
        http.send_headers(1, list(head.items()))
        http.send_data(1, b"\0" + len(request).to_bytes(4, "big") + request, end_stream=True)
        body, trailers = b"", {}
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(100)
            peer.connect(self.path)
            for event in _events(http, peer):
                if isinstance(event, h2.events.DataReceived):
                    http.acknowledge_received_data(event.flow_controlled_length, 1)
                    body += event.data
                elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                    trailers |= dict(event.headers)
        if trailers.get("grpc-status") != "0":
            raise Failed(method, trailers.get("grpc-status"), trailers.get("grpc-message", ""))
        return decode(f"{method}Response", body[5:])


def _events(http, peer):
    """What the server sends, until its answer ends."""
    while True:
        peer.sendall(http.data_to_send())
        received = peer.recv(1 << 16)
        assert received, "the connection was closed"
        for event in http.receive_data(received):
            if isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                return
            yield event


def info(response):
    """What a runtime tells of itself when it is asked to be verbose: containerd's JSON."""
    return json.loads(response["info"]["info"])
