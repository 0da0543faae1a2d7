"""Look at what is nobody's business."""

import ctypes
import os
import pathlib
import select
import socket
import stat

from .tell import TMP, note

# What the runner and other evals keep, and what leads to the engine.
WANTED = (
    "oaievalset",
    ".attempts",
    "evallogs",
    "docker.sock",
    "containerd.sock",
    "planted-outside",
)
QUIET = ("/proc", "/sys", "/usr", "/tmp")


def records(*_rest: str) -> None:
    """Look for other evals' results, the runner's records and the engine."""
    found = []
    for above, folders, files in os.walk("/"):
        folders[:] = [name for name in folders if os.path.join(above, name) not in QUIET]
        found += [os.path.join(above, name) for name in (*folders, *files) if name in WANTED]
    around = [str(path) for path in pathlib.Path("/tmp/..").resolve().iterdir()]
    mounts = [
        line.split()[4:6] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    ]
    note(
        found=found,
        around=around,
        own=os.listdir("/tmp"),
        mounted=[place for place, _ in mounts],
        writable=[place for place, options in mounts if options.split(",")[0] == "rw"],
        by_handle=_by_handle(),
    )


def _by_handle() -> str:
    """Open the root of the file system of `/tmp` by its number, as a known escape does."""

    class Handle(ctypes.Structure):
        _fields_ = [("size", ctypes.c_uint), ("kind", ctypes.c_int), ("number", ctypes.c_char * 8)]

    libc = ctypes.CDLL(None, use_errno=True)
    folder = os.open("/tmp", os.O_RDONLY)
    handle = Handle(8, 1, b"\x02\0\0\0\0\0\0\0")
    opened = libc.open_by_handle_at(folder, ctypes.byref(handle), os.O_RDONLY)
    return "opened" if opened >= 0 else os.strerror(ctypes.get_errno())


def processes(*_rest: str) -> None:
    """Look at all processes that can be seen, and at what they were given."""
    seen = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            line = pathlib.Path(f"/proc/{entry}/cmdline").read_bytes()
            seen[entry] = line.replace(b"\0", b" ").decode(errors="replace")
    environ = pathlib.Path("/proc/1/environ").read_bytes().decode().split("\0")
    note(
        seen=seen,
        environment=sorted(os.environ),
        first=sorted(each.partition("=")[0] for each in environ if each),
        everything="\n".join([*map("=".join, os.environ.items()), *environ]),
    )


def network(*_rest: str) -> None:
    """Try to reach whoever the test names in the model's registry, and anybody at all."""
    reached: list[str] = []
    for line in pathlib.Path("/registry/0/targets").read_text().splitlines():
        host, _, port = line.rpartition(":")
        if host == "abstract":
            _reach(reached, line, socket.AF_UNIX, f"\0{port}")
        else:
            _reach(reached, line, socket.AF_INET, (host, int(port)))
    try:
        socket.getaddrinfo("example.com", 80)
        reached.append("a name")
    except OSError:
        pass
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        try:
            out.sendto(b"x", ("192.0.2.1", 53))
            reached.append("a datagram")
        except OSError:
            pass
    interfaces = [name for _, name in socket.if_nameindex()]
    note(reached=reached, interfaces=interfaces, own=_own_loopback())


def _reach(reached: list[str], name: str, family: int, address: tuple[str, int] | str) -> None:
    with socket.socket(family) as out:
        out.settimeout(2)
        try:
            out.connect(address)
            reached.append(name)
        except OSError:
            pass


def _own_loopback() -> bool:
    """Whether connecting works at all here; without it, the rest proves nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        reached: list[str] = []
        _reach(reached, "own", socket.AF_INET, server.getsockname())
    return bool(reached)


def serve(*_rest: str) -> None:
    """Answer on a port, on all addresses, until the neighbour has looked."""
    with socket.create_server(("", 7777)) as server:
        server.settimeout(5)
        print("waiting", flush=True)
        try:
            server.accept()
            note(visited=True)
        except TimeoutError:
            note(visited=False)


def scan(*_rest: str) -> None:
    """Try every neighbour on the network that evals share, by both protocols."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.connect(("192.0.2.1", 9))
        own = out.getsockname()[0]
    start = own.rpartition(".")[0]
    tries = {}
    for last in range(2, 120):
        out = socket.socket()
        out.settimeout(0)
        out.connect_ex((f"{start}.{last}", 7777))
        tries[f"{start}.{last}"] = out
    reached = []
    for _ in range(10):
        _, writable, _ = select.select([], list(tries.values()), [], 0.3)
        for name, out in list(tries.items()):
            if out in writable:
                if out.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    reached.append(name)
                del tries[name]
    local = pathlib.Path("/proc/net/if_inet6")
    six = (
        [line for line in local.read_text().splitlines() if not line.endswith(" lo")]
        if local.exists()
        else []
    )
    note(own=own, reached=reached, six=six)


def places(*_rest: str) -> None:
    """Try to write wherever there is a place."""
    inside = TMP / "mine"
    inside.write_text("")
    places = ["/", "/etc", "/usr", "/usr/bin", "/hostile", "/root", "/var", "/run", "/home", "/opt"]
    places += ["/registry/0", "/registry/0/evals", "/sys", "/sys/kernel", "/sys/fs/cgroup"]
    places += ["/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids", "/proc", "/proc/sys/kernel"]
    written = [place for place in places if _writes(pathlib.Path(place, "planted"))]
    files = ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/vm/panic_on_oom"]
    files += [
        "/proc/sys/kernel/modprobe",
        "/sys/kernel/uevent_helper",
        "/etc/passwd",
    ]
    files += ["/registry/0/evals/all.yaml", "/hostile/program.py", "/etc/hosts", "/etc/resolv.conf"]
    files += [
        os.path.join(above, name)
        for above, _, names in os.walk("/sys/fs/cgroup")
        for name in names
        if name
        in {"memory.limit_in_bytes", "pids.max", "devices.allow", "release_agent", "cgroup.procs"}
    ]
    written += [path for path in files if os.path.exists(path) and _opens(path)]
    devices = [
        path
        for path in map(str, pathlib.Path("/dev").rglob("*"))
        if stat.S_ISBLK(os.lstat(path).st_mode)
    ]
    note(written=written, tried=len(places) + len(files), inside=inside.exists(), devices=devices)


def _writes(path: pathlib.Path) -> bool:
    try:
        path.write_text("x")
    except OSError:
        return False
    return True


def _opens(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_WRONLY))
    except OSError:
        return False
    return True
