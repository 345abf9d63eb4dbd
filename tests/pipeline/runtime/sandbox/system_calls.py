"""System calls with their numbers on x86-64 and arm64, by the processes that may make them.

Written from the headers (asm/unistd_64.h, asm-generic/unistd.h), not from the filters.
"""

CHILD = {
    "brk": (12, 214), "clock_getres": (229, 114), "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115), "close": (3, 57), "exit": (60, 93), "exit_group": (231, 94),
    "futex": (202, 98), "getcpu": (309, 168), "getpid": (39, 172), "getrandom": (318, 278),
    "getrusage": (98, 165), "gettid": (186, 178), "gettimeofday": (96, 169),
    "madvise": (28, 233), "mremap": (25, 216), "munmap": (11, 215), "nanosleep": (35, 101),
    "restart_syscall": (219, 128), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139), "sched_getaffinity": (204, 123), "sched_yield": (24, 124),
    "setitimer": (38, 103), "sigaltstack": (131, 132), "sysinfo": (99, 179), "uname": (63, 160),
}  # fmt: skip
MEMORY = {"mmap": (9, 222), "mprotect": (10, 226)}
ZYGOTE = {
    "close_range": (436, 436), "fstat": (5, 80), "getppid": (110, 173),
    "pipe2": (293, 59), "ppoll": (271, 73), "recvmsg": (47, 212), "rseq": (334, 293),
    "sendmsg": (46, 211), "set_robust_list": (273, 99), "set_tid_address": (218, 96),
    "wait4": (61, 260),
}  # fmt: skip
POLL = 7
"""Number on x86-64; arm64 has no such call."""
GUARDED = {
    "clone": (56, 220), "kill": (62, 129), "prctl": (157, 167), "prlimit64": (302, 261),
    "seccomp": (317, 277), "newfstatat": (262, 79), "fcntl": (72, 25),
}  # fmt: skip
CLONE3 = 435
NEVER = {
    "accept": (43, 202), "bind": (49, 200), "bpf": (321, 280), "chmod": (90, None),
    "chroot": (161, 51), "connect": (42, 203), "dup": (32, 23), "epoll_create1": (291, 20),
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "ftruncate": (77, 46),
    "getdents64": (217, 61), "init_module": (175, 105), "io_uring_setup": (425, 425),
    "ioctl": (16, 29), "keyctl": (250, 219), "link": (86, None), "linkat": (265, 37),
    "memfd_create": (319, 279), "mount": (165, 40), "open": (2, None), "openat": (257, 56),
    "openat2": (437, 437), "perf_event_open": (298, 241), "personality": (135, 92),
    "pidfd_getfd": (438, 438), "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "ptrace": (101, 117),
    "read": (0, 63), "readlink": (89, None), "recvfrom": (45, 207), "rt_sigqueueinfo": (129, 138),
    "sched_setaffinity": (203, 122), "sendto": (44, 206), "setns": (308, 268),
    "setrlimit": (160, 164), "setsid": (112, 157), "setuid": (105, 146), "shmget": (29, 194),
    "socket": (41, 198), "socketpair": (53, 199), "stat": (4, None), "statx": (332, 291),
    "tgkill": (234, 131), "tkill": (200, 130), "truncate": (76, 45), "unlinkat": (263, 35),
    "unshare": (272, 97), "userfaultfd": (323, 282), "vfork": (58, None), "write": (1, 64),
}  # fmt: skip
