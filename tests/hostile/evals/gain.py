"""Try to get more rights than an eval has."""

import ctypes
import os
import pathlib
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable

from .tell import TMP, note

LIBC = ctypes.CDLL(None, use_errno=True)
NEW_USER, NEW_MOUNTS, NEW_NETWORK = 0x10000000, 0x00020000, 0x40000000
REMOUNT, READ_ONLY, BIND = 32, 1, 4096
# Numbers of system calls on x86_64 that have no function in the C library.
PIVOT_ROOT, KEXEC_LOAD, BPF, PERF, ADD_KEY, INIT_MODULE = 155, 246, 321, 298, 248, 175


def call(name: str, *arguments: object) -> Callable[[], bool]:
    """A function of the C library that succeeds with anything but -1."""
    return lambda: getattr(LIBC, name)(*arguments) != -1


def number(*arguments: object) -> Callable[[], bool]:
    """A system call by its number."""
    return lambda: LIBC.syscall(*arguments) != -1


def does(act: Callable[..., object], *arguments: object) -> Callable[[], bool]:
    """What succeeds if it raises nothing."""

    def attempt() -> bool:
        act(*arguments)
        return True

    return attempt


def enter(path: str) -> None:
    """Go into a namespace."""
    if LIBC.setns(os.open(path, os.O_RDONLY), 0) == -1:
        raise OSError


def rights(*_rest: str) -> None:
    """Try everything that needs a right; each in a process of its own."""
    folder = TMP / "folder"
    folder.mkdir()
    here = os.fsencode(folder)
    tried = {
        "mount": call("mount", b"none", here, b"tmpfs", 0, None),
        "mount proc": call("mount", b"proc", here, b"proc", 0, None),
        "bind": call("mount", b"/", here, None, BIND, None),
        "remount root": call("mount", None, b"/", None, REMOUNT, None),
        "remount registry": call("mount", None, b"/registry/0", None, REMOUNT | BIND, None),
        "remount sys": call("mount", None, b"/sys", None, REMOUNT, None),
        "unmount": call("umount2", b"/tmp", 2),
        "unmount registry": call("umount2", b"/registry/0", 2),
        "user namespace": call("unshare", NEW_USER),
        "user and mount namespace": call("unshare", NEW_USER | NEW_MOUNTS),
        "mount namespace": call("unshare", NEW_MOUNTS),
        "network namespace": call("unshare", NEW_NETWORK),
        "namespace of the first process": does(enter, "/proc/1/ns/mnt"),
        "chroot": call("chroot", here),
        "pivot_root": number(PIVOT_ROOT, here, here),
        "block device": does(os.mknod, TMP / "disk", stat.S_IFBLK | 0o666, os.makedev(254, 0)),
        "character device": does(os.mknod, TMP / "mem", stat.S_IFCHR | 0o666, os.makedev(1, 1)),
        "give a file away": does(os.chown, folder, 12345, 12345),
        "another user": does(os.setuid, 12345),
        "host name": call("sethostname", b"x", 1),
        "clock": call("settimeofday", (ctypes.c_long * 2)(1, 1), None),
        "reboot": call("reboot", 0),
        "swap": call("swapoff", here),
        "kernel log": call("klogctl", 3, ctypes.create_string_buffer(64), 64),
        "module": number(INIT_MODULE, here, 1, b""),
        "kexec": number(KEXEC_LOAD, 0, 0, 0, 0),
        "bpf": number(BPF, 0, ctypes.create_string_buffer(128), 128),
        "perf": number(PERF, ctypes.create_string_buffer(128), 0, -1, -1, 0),
        "key": number(ADD_KEY, b"user", b"x", b"x", 1, -3),
        "raw socket": does(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1),
        "packet socket": does(socket.socket, socket.AF_PACKET, socket.SOCK_RAW),
        "priority": does(os.setpriority, os.PRIO_PROCESS, 0, -5),
        "real time": does(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1)),
        "signal a stranger": does(os.kill, 1 << 21, 0),
        "memory": does(os.open, "/dev/mem", os.O_RDONLY),
        "ports": call("iopl", 3),
        "keep rights": call("prctl", 47, 2, 0, 0, 0),
    }
    worked = [name for name, attempt in tried.items() if apart(attempt)]
    note(worked=worked, tried=len(tried), control=apart(lambda: True), **state())


def apart(attempt: Callable[[], bool]) -> bool:
    """Whether it worked, tried by a process of its own."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if attempt() else 1)
        except BaseException:  # noqa: BLE001 - it did not work
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def state() -> dict[str, object]:
    """What the kernel says of this process, and of a set-uid program that it made."""
    program = TMP / "cat"
    shutil.copy("/bin/cat", program)
    program.chmod(0o6755)
    said = subprocess.run(
        [program, "/proc/self/status"], capture_output=True, text=True, check=True
    )
    return {"own": lines(pathlib.Path("/proc/self/status").read_text()), "made": lines(said.stdout)}


def lines(text: str) -> dict[str, str]:
    """The lines about rights."""
    wanted = ("Cap", "NoNewPrivs", "Seccomp:", "Uid", "Gid")
    pairs = [line.split(":", 1) for line in text.splitlines() if line.startswith(wanted)]
    return {name: " ".join(value.split()) for name, value in pairs}
