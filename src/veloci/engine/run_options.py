"""Everything that a user may ask of a new container, in docker's spelling: one list, for `run`, `create` and Python."""

from __future__ import annotations

from veloci.spec.document import Document


class RunOptions(Document):
    """What a container is made with besides its image and command.

    Each field is the option of that name, in docker's spelling: `RunOptions(publish=("8000:80",), memory="512m")`.

    --name NAME                its name; one is made up otherwise
    --rm                       remove the container, and its anonymous volumes, when it ends
    -i, --interactive          keep standard input open
    -t, --tty                  give it a terminal
    -e, --env KEY=VALUE        set an environment variable; KEY alone copies ours
    --env-file FILE            set those of a file
    -v, --volume [SRC:]DST[:OPTIONS]  bind a directory (/… ./…) or a volume (NAME, or none); ro, nocopy, z, rshared …
    --mount type=bind|volume|tmpfs,src=…,dst=…  the same in fields
    --tmpfs PATH[:OPTIONS]     a file system in memory
    --volumes-from CONTAINER[:ro]  the binds and volumes of another container
    -w, --workdir DIR          where the command runs
    -u, --user USER[:GROUP]    as whom
    --group-add GROUP          a further group of the user
    --entrypoint COMMAND       instead of the image's; empty resets it
    -p, --publish [[IP:]PORT:]PORT  publish a port on the host
    -P, --publish-all          publish every port that the image or --expose names
    --expose PORT[/PROTOCOL]   a port that it listens on
    --network, --net NAME      bridge, none, host, container:NAME, ns:PATH or a network
    --network-alias NAME       a further name by which containers in a network of yours find it
    --ip ADDRESS               its address in the network
    --mac-address ADDRESS      its link's address
    -h, --hostname NAME        its host name
    --domainname NAME          its NIS domain name
    --add-host NAME:ADDRESS    a line of /etc/hosts; host-gateway is the host's address
    --dns ADDRESS              a name server
    --dns-search DOMAIN        a domain to search; . is none
    --dns-option, --dns-opt OPTION  an option of the resolver
    -l, --label KEY=VALUE      a label
    --label-file FILE          those of a file
    --annotation KEY=VALUE     an annotation for the runtime
    --cap-add CAP              a capability more; ALL
    --cap-drop CAP             a capability less; ALL
    --privileged               all capabilities, all devices, nothing masked
    --security-opt OPTION      no-new-privileges, seccomp=FILE|unconfined, apparmor=PROFILE|unconfined,
                               label=disable|type:T|…, systempaths=unconfined
    --read-only                the root file system is read-only
    --device SRC[:DST[:rwm]]   a device of the host, or all in a directory; or by a name of /etc/cdi: vendor/class=name
    --gpus all|N|device=ID,…   graphics processors, by their CDI names nvidia.com/gpu=…
    --device-cgroup-rule RULE  devices it may use besides: 'c 1:3 rwm'
    --init                     a small init as the first process: it passes signals on and reaps
    --pid NAMESPACE            host or container:NAME
    --ipc NAMESPACE            private, shareable, none (no /dev/shm), host or container:NAME
    --uts NAMESPACE            host
    --userns NAMESPACE         host, private (its users are others on the host), auto[:size=N], container:NAME, ns:PATH
    --uidmap INSIDE:HOST:SIZE  which users of the host its users are; may be repeated
    --gidmap INSIDE:HOST:SIZE  the same of groups; one of the two stands for both
    --subuidname NAME          the users that /etc/subuid gives to NAME
    --subgidname NAME          the groups that /etc/subgid gives to NAME
    --cgroupns NAMESPACE       private or host
    --cgroup-parent PATH       the cgroup above its own
    -m, --memory SIZE          at most this much memory (512m, 2g)
    --memory-reservation SIZE  what is left to it when memory is short
    --memory-swap SIZE         memory and swap together; -1 is no limit
    --memory-swappiness N      0 to 100
    --oom-kill-disable         wait for memory at the limit, never kill
    --oom-score-adj N          -1000 to 1000: how readily the kernel kills it
    --cpus N                   at most so many processors
    -c, --cpu-shares N         its weight beside others
    --cpu-period USEC          the quota's period
    --cpu-quota USEC           processor time in a period
    --cpuset-cpus LIST         the processors it may use (0-2,4)
    --cpuset-mems LIST         the memory nodes it may use
    --cpu-rt-period USEC       the real-time period
    --cpu-rt-runtime USEC      real-time processor time in it
    --pids-limit N             at most so many processes; -1 is no limit
    --blkio-weight N           10 to 1000: its weight at the disk
    --device-read-bps DEVICE:SIZE   bytes a second read from a device at most
    --device-write-bps DEVICE:SIZE  written
    --device-read-iops DEVICE:N     reads a second
    --device-write-iops DEVICE:N    writes
    --ulimit TYPE=SOFT[:HARD]  a resource limit
    --sysctl KEY=VALUE         a kernel parameter of its namespaces
    --shm-size SIZE            of /dev/shm
    --health-cmd COMMAND       how the container is asked whether it is well, by its shell
    --health-interval TIME     between two looks (30s)
    --health-timeout TIME      how long one may take (30s)
    --health-retries N         failures in a row that make it unhealthy (3)
    --health-start-period TIME  how long it may take to start: failures do not count (0s)
    --health-start-interval TIME  between two looks meanwhile (5s)
    --no-healthcheck           do not ask, whatever the image says
    --log-driver DRIVER        json-file, or none: what it writes is not kept
    --log-opt KEY=VALUE        max-size=10m, max-file=3 (the newest are kept), labels=A,B, env=A,B (for logs --details)
    --stop-signal SIGNAL       what stop sends
    --stop-timeout SECONDS     how long stop waits
    --restart POLICY           no, always, unless-stopped, on-failure[:n]
    --pull POLICY              missing, always or never
    --platform OS/ARCH         the image for this platform
    --runtime NAME             veloci, runc, crun, runsc or a path
    """

    name: str = ""
    rm: bool = False
    interactive: bool = False
    tty: bool = False
    env: tuple[str, ...] = ()
    env_file: tuple[str, ...] = ()
    volume: tuple[str, ...] = ()
    mount: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ()
    volumes_from: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    group_add: tuple[str, ...] = ()
    entrypoint: str | None = None
    publish: tuple[str, ...] = ()
    publish_all: bool = False
    expose: tuple[str, ...] = ()
    network: str = "bridge"
    network_alias: tuple[str, ...] = ()
    ip: str = ""
    mac_address: str = ""
    hostname: str = ""
    domainname: str = ""
    add_host: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_option: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    label_file: tuple[str, ...] = ()
    annotation: tuple[str, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    security_opt: tuple[str, ...] = ()
    read_only: bool = False
    device: tuple[str, ...] = ()
    gpus: str = ""
    device_cgroup_rule: tuple[str, ...] = ()
    init: bool = False
    pid: str = ""
    ipc: str = ""
    uts: str = ""
    userns: str = ""
    uidmap: tuple[str, ...] = ()
    gidmap: tuple[str, ...] = ()
    subuidname: str = ""
    subgidname: str = ""
    cgroupns: str = ""
    cgroup_parent: str = ""
    memory: str = ""
    memory_reservation: str = ""
    memory_swap: str = ""
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    oom_score_adj: int | None = None
    cpus: str = ""
    cpu_shares: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    cpu_rt_period: int | None = None
    cpu_rt_runtime: int | None = None
    pids_limit: int | None = None
    blkio_weight: int | None = None
    device_read_bps: tuple[str, ...] = ()
    device_write_bps: tuple[str, ...] = ()
    device_read_iops: tuple[str, ...] = ()
    device_write_iops: tuple[str, ...] = ()
    ulimit: tuple[str, ...] = ()
    sysctl: tuple[str, ...] = ()
    shm_size: str = ""
    stop_signal: str = ""
    stop_timeout: int = 10
    restart: str = "no"
    health_cmd: str = ""
    health_interval: str = ""
    health_timeout: str = ""
    health_retries: int = 0
    health_start_period: str = ""
    health_start_interval: str = ""
    no_healthcheck: bool = False
    log_driver: str = "json-file"
    log_opt: tuple[str, ...] = ()
    pull: str = "missing"
    platform: str = ""
    runtime: str = "veloci"
