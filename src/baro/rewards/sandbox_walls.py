"""The walls round one process inside the sandbox: namespaces, mounts, limits, capabilities, system calls.

It runs inside bubblewrap and imports the standard library alone. Linux on x86-64; elsewhere `check_machine` says so.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
from collections.abc import Mapping

LIBC = ctypes.CDLL(None, use_errno=True)
SYSCALL = ctypes.PyDLL(None, use_errno=True).syscall  # which keeps Python's lock over a fork
SYSCALL.argtypes, SYSCALL.restype = [ctypes.c_long] * 6, ctypes.c_long
LIBC.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]

# linux/sched.h, linux/prctl.h, sys/mount.h
NEW_NAMESPACES = 0x00020000 | 0x10000000 | 0x20000000  # mount, user, PID; calls of IPC are refused
ANY_NAMESPACE = 0x7E020000
SET_DUMPABLE, SET_SECCOMP, DROP_BOUND, SET_SUBREAPER, SET_NO_NEW_PRIVILEGES = 4, 22, 24, 36, 38
NOSUID_NODEV, NOEXEC = 2 | 4, 8
UNUSED_ID = 64231  # the uid and gid of programs when the pool was started by root

DENIED = {  # x86-64 numbers; what no program of a task needs, and what reaches other processes or the kernel's insides
    "shmget": 29, "socket": 41, "connect": 42, "accept": 43, "sendmsg": 46, "recvmsg": 47, "bind": 49, "listen": 50,
    "setsockopt": 54, "accept4": 288, "recvmmsg": 299, "sendmmsg": 307, "semget": 64, "msgget": 68,
    "ptrace": 101, "syslog": 103,
    "uselib": 134, "modify_ldt": 154, "remap_file_pages": 216, "set_mempolicy": 238, "splice": 275, "tee": 276,
    "personality": 135, "ustat": 136, "pivot_root": 155, "sysctl": 156, "adjtimex": 159, "chroot": 161, "acct": 163,
    "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168, "reboot": 169,
    "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173, "create_module": 174, "init_module": 175,
    "delete_module": 176, "quotactl": 179, "nfsservctl": 180, "lookup_dcookie": 212, "clock_settime": 227,
    "mbind": 237, "mq_open": 240, "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250,
    "migrate_pages": 256, "unshare": 272, "vmsplice": 278, "move_pages": 279, "perf_event_open": 298,
    "fanotify_init": 300, "name_to_handle_at": 303, "open_by_handle_at": 304, "clock_adjtime": 305, "setns": 308,
    "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "finit_module": 313, "memfd_create": 319,
    "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425, "io_uring_enter": 426,
    "io_uring_register": 427, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
    "fspick": 433, "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442, "quotactl_fd": 443,
    "memfd_secret": 447, "process_mrelease": 448,
}  # fmt: skip
SIGNALS = {"kill": 62, "rt_sigqueueinfo": 129, "tkill": 200, "tgkill": 234, "rt_tgsigqueueinfo": 297, "pidfd": 424}
CLONE, CLONE3, LAST_KNOWN = 56, 435, 462
SOCKETPAIR, WITH_FLAGS = (
    53,
    (44, 45),
)  # asyncio wakes itself by a pair of sockets: of AF_UNIX, sendto and recvfrom plain


def is_known_machine() -> bool:
    """Whether the numbers of system calls above are this machine's."""
    return platform.system() == "Linux" and platform.machine() == "x86_64"


def checked(result: int, call: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{call}: {os.strerror(ctypes.get_errno())}")


def become_nobody() -> None:
    """Started by root: from here on an unused uid, without capabilities, so that the limits on processes bind."""
    if os.getuid() == 0:
        for capability in range(64):
            LIBC.prctl(DROP_BOUND, capability, 0, 0, 0)
        os.setgroups([])
        os.setresgid(UNUSED_ID, UNUSED_ID, UNUSED_ID)
        os.setresuid(UNUSED_ID, UNUSED_ID, UNUSED_ID)
    checked(LIBC.prctl(SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "prctl")
    LIBC.prctl(SET_DUMPABLE, 0, 0, 0, 0)


def forked(*, alone: bool) -> int:
    """As ``os.fork``; ``alone`` makes the child PID 1 of namespaces of its own, with all capabilities in there."""
    if not alone:
        return os.fork()
    python = ctypes.pythonapi
    python.PyOS_BeforeFork()
    process = int(SYSCALL(CLONE, NEW_NAMESPACES | signal.SIGCHLD, 0, 0, 0, 0))
    if process == 0:
        python.PyOS_AfterFork_Child()
        return 0
    python.PyOS_AfterFork_Parent()
    if process < 0:
        raise OSError(ctypes.get_errno(), f"clone: {os.strerror(ctypes.get_errno())}")
    return process


def map_and_mount(uid: int, gid: int) -> None:
    """In new namespaces: the uid and gid of the server; /tmp is empty and small, /proc empty."""
    LIBC.prctl(SET_DUMPABLE, 1, 0, 0, 0)  # or the maps below belong to root
    written("/proc/self/setgroups", "deny")
    written("/proc/self/uid_map", f"{uid} {uid} 1")
    written("/proc/self/gid_map", f"{gid} {gid} 1")
    written("/proc/self/oom_score_adj", "1000")
    tmp = b"size=16m,nr_inodes=1000,mode=1777"
    checked(LIBC.mount(b"tmpfs", b"/tmp", b"tmpfs", NOSUID_NODEV, tmp), "mount /tmp")
    checked(LIBC.mount(b"tmpfs", b"/proc", b"tmpfs", NOSUID_NODEV | NOEXEC | 1, b"size=4k,nr_inodes=2"), "mount /proc")


def written(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def set_limits(limits: Mapping[str, int]) -> None:
    """``cpu_seconds``, ``memory_bytes`` (address space of one process), ``processes`` (threads count), and the rest."""
    wanted = {
        resource.RLIMIT_CPU: limits["cpu_seconds"],
        resource.RLIMIT_AS: limits["memory_bytes"],
        resource.RLIMIT_NPROC: limits["processes"],
        resource.RLIMIT_FSIZE: 4 << 20,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_STACK: 64 << 20,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for name, value in wanted.items():
        hard = resource.getrlimit(name)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (value, value))


def drop_capabilities() -> None:
    """None is left, in no set, and no program that is executed brings one back."""
    for capability in range(64):
        LIBC.prctl(DROP_BOUND, capability, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    checked(LIBC.capset(ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)())), "capset")
    checked(LIBC.prctl(SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "prctl")


def filter_system_calls(*, signals: bool) -> None:
    """Refuse ``DENIED``, other machines' calls, new namespaces, calls newer than this list; with ``signals`` allowed
    only where a PID namespace keeps them from everybody else.
    """
    denied = [*DENIED.values(), *(() if signals else SIGNALS.values())]
    instructions = filter_instructions(sorted(denied))
    code = b"".join(struct.pack("=HBBI", *one) for one in instructions)
    held = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]

    program = Program(len(instructions), ctypes.addressof(held))
    checked(LIBC.prctl(SET_SECCOMP, 2, ctypes.byref(program), 0, 0), "seccomp")


def filter_instructions(denied: list[int]) -> list[tuple[int, int, int, int]]:
    """Berkeley packet filter over ``struct seccomp_data``: number at 0, machine at 4, arguments from 16 on."""
    load, equal, at_least, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill, not_permitted, no_such_call = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050000 | 38
    found = [(load, 0, 0, 4), (equal, 1, 0, 0xC000003E), (give, 0, 0, kill), (load, 0, 0, 0)]
    found += [(at_least, 0, 1, 0x40000000), (give, 0, 0, not_permitted)]  # x32
    found += [(at_least, 0, 1, LAST_KNOWN + 1), (give, 0, 0, no_such_call)]
    found += [(equal, 0, 1, CLONE3), (give, 0, 0, no_such_call)]  # its flags cannot be read here; libc takes clone
    for number in denied:
        found += [(equal, 0, 1, number), (give, 0, 0, not_permitted)]
    only = [(SOCKETPAIR, 16, 1), *((number, 40, 0) for number in WITH_FLAGS)]  # an argument's place, and what it may be
    for number, argument, value in only:
        found += [(equal, 0, 4, number), (load, 0, 0, argument), (equal, 1, 0, value), (give, 0, 0, not_permitted)]
        found += [(give, 0, 0, allow)]
    found += [(equal, 0, 3, CLONE), (load, 0, 0, 16), (any_bit, 0, 1, ANY_NAMESPACE), (give, 0, 0, not_permitted)]
    return [*found, (give, 0, 0, allow)]
