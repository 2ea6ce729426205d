"""Names of the system calls in which threads of an engine wait, by machine and number."""

from __future__ import annotations

_NAMES: dict[str, dict[int, str]] = {
    "x86_64": {
        0: "read", 1: "write", 3: "close", 7: "poll", 9: "mmap", 10: "mprotect", 11: "munmap",
        12: "brk", 16: "ioctl", 17: "pread64", 18: "pwrite64", 19: "readv", 20: "writev",
        23: "select", 24: "sched_yield", 25: "mremap", 28: "madvise", 34: "pause", 35: "nanosleep",
        40: "sendfile", 42: "connect", 43: "accept", 44: "sendto", 45: "recvfrom", 46: "sendmsg",
        47: "recvmsg", 61: "wait4", 74: "fsync", 75: "fdatasync", 202: "futex", 208: "io_getevents",
        230: "clock_nanosleep", 232: "epoll_wait", 247: "waitid", 257: "openat", 270: "pselect6",
        271: "ppoll", 281: "epoll_pwait", 288: "accept4", 295: "preadv", 426: "io_uring_enter",
        441: "epoll_pwait2", 449: "futex_waitv", 455: "futex_wait",
    },
    "aarch64": {
        22: "epoll_pwait", 4: "io_getevents", 29: "ioctl", 56: "openat", 57: "close", 63: "read",
        64: "write", 65: "readv", 66: "writev", 67: "pread64", 68: "pwrite64", 69: "preadv",
        71: "sendfile", 72: "pselect6", 73: "ppoll", 82: "fsync", 83: "fdatasync", 95: "waitid",
        98: "futex", 101: "nanosleep", 115: "clock_nanosleep", 124: "sched_yield", 202: "accept",
        203: "connect", 206: "sendto", 207: "recvfrom", 211: "sendmsg", 212: "recvmsg", 214: "brk",
        215: "munmap", 216: "mremap", 222: "mmap", 226: "mprotect", 233: "madvise", 242: "accept4",
        260: "wait4", 426: "io_uring_enter", 441: "epoll_pwait2", 449: "futex_waitv",
        455: "futex_wait",
    },
}  # fmt: skip

PAGE_FAULT = "page fault"
YIELD = "sched_yield"


def call_name(machine: str, number: int) -> str:
    """What a thread waits in: a system call's name, or PAGE_FAULT for -1, which is none."""
    if number < 0:
        return PAGE_FAULT
    return _NAMES.get(machine, {}).get(number, f"system call {number}")
