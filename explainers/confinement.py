"""What a process that opens uploads may take and do. Free of torch.

The walls hold for the thread that puts them up and for those it starts later: put them up before others are there.
What a kernel does not offer is left out, and ``confine`` says what it has put up.
"""

from __future__ import annotations

import ctypes
import errno
import math
import os
import platform
import resource
import signal
import struct
import sys
import sysconfig
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from explainers.settings import settings

#: The walls: no rights of a superuser; no files but those that Python needs; no calls but those of arithmetic.
CAPABILITIES, FILES, CALLS = "capabilities", "files", "system calls"

#: What may be read besides Python's own folders: libraries of the system, how texts are written, and its processors.
READABLE = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/locale", "/usr/share/zoneinfo",
    "/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/proc/self",
    "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm/overcommit_memory", "/sys/devices/system",
)  # fmt: skip

#: Variables that a process may know besides those of a beginning below; no others, as they may hold passwords.
VARIABLES = ("LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES")
BEGINNINGS = ("LC_", "OMP_", "MKL_", "OPENBLAS_", "PYTHON")

#: Rights on files in the order of Landlock's bits, how many each version of it knows, and those of a file that is read.
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, *_ = (1 << bit for bit in range(16))
KNOWN_RIGHTS = (0, 13, 14, 15, 15, 16)
SPECIAL_FILES = 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11  # making devices, sockets and pipes
KEEP_READING = 1 << 2  # the capability to read whatever the file's mode says, under the wall of files

#: Refused calls by their numbers on x86_64 and on aarch64; None where there is no such call.
REFUSED: Mapping[str, tuple[int | None, int | None]] = {
    # Other machines and processes by sockets. One that was there before can be read and written.
    "socket": (41, 198), "connect": (42, 203), "accept": (43, 202), "accept4": (288, 242), "bind": (49, 200),
    "listen": (50, 201), "socketpair": (53, 199),
    # Other programs and processes.
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440),
    "process_mrelease": (448, 448), "kcmp": (312, 272), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "setpriority": (141, 140), "ioprio_set": (251, 30),
    "sched_setparam": (142, 118), "sched_setscheduler": (144, 119), "sched_setattr": (314, 274),
    "migrate_pages": (256, 238), "move_pages": (279, 239), "shmget": (29, 194), "shmat": (30, 196),
    "shmctl": (31, 195), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180), "mq_unlink": (241, 181),
    # The system's doors that were found unlocked before, and the system itself.
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "unshare": (272, 97), "setns": (308, 268), "personality": (135, 92),
    "fanotify_init": (300, 262), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "sethostname": (170, 161), "setdomainname": (171, 162),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443), "syslog": (103, 116), "iopl": (172, None),
    "ioperm": (173, None),
    # What is known of files besides what is in them: no wall of files keeps that.
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "setxattrat": (463, 463), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "fremovexattr": (199, 16), "removexattrat": (466, 466), "file_setattr": (469, 469), "utime": (132, None),
    "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88), "truncate": (76, 45),
}  # fmt: skip

#: Calls that write files, refused where there is no wall of files and no folder to write in.
WRITING: Mapping[str, tuple[int | None, int | None]] = {
    "creat": (85, None), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None), "unlink": (87, None),
    "unlinkat": (263, 35), "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276), "link": (86, None),
    "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36), "mknod": (133, None), "mknodat": (259, 33),
}  # fmt: skip

#: The machine's place in the pairs above, how the kernel names it, and the numbers of calls that are filtered further.
MACHINES = {
    "x86_64": (0, 0xC000003E, {"seccomp": 317, "clone": 56, "kill": 62, "tgkill": 234, "prctl": 157, "prlimit64": 302,
                               "open": 2, "openat": 257}),
    "aarch64": (1, 0xC00000B7, {"seccomp": 277, "clone": 220, "kill": 129, "tgkill": 131, "prctl": 167,
                                "prlimit64": 261, "openat": 56}),
}  # fmt: skip
CLONE3, OPENAT2, LANDLOCK = 435, 437, 444  # alike on all machines; Landlock's three follow each other
CLONE_THREAD, PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 0x10000, 1, 38

#: Instructions of the filter: load a word, compare it, test its bits, return.
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, REFUSE, MISSING = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS

_system = ctypes.CDLL(None, use_errno=True)


def limit(memory: int, seconds: int) -> None:
    """Bound what this process may take on top of what it has: memory, processor time, and bytes in a file."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    processor = math.ceil(time.process_time()) + seconds * (os.cpu_count() or 1)
    bounds = {
        resource.RLIMIT_AS: pages * os.sysconf("SC_PAGE_SIZE") + memory,
        resource.RLIMIT_CPU: processor,
        resource.RLIMIT_FSIZE: memory,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in bounds.items():
        resource.setrlimit(kind, (most, most))


def environment(folder: Path | str, given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a confined process is started with: a folder of its own as its home, bounds, and nothing secret.

    Whatever is started with this sees the settings that are numbers, which the server may have read from a file.
    """
    kept = {name: text for name, text in given.items() if name in VARIABLES or name.startswith(BEGINNINGS)}
    bounds = {f"LIGHTBOX_{name.upper()}": str(one) for name, one in vars(settings()).items() if isinstance(one, int)}
    own = dict.fromkeys(("HOME", "TMPDIR", "LIGHTBOX_CACHE"), str(folder)) | {"PATH": "", "USER": "lightbox"}
    return kept | bounds | own


def end_with(parent: int) -> None:
    """Let this process be killed as soon as the thread of the parent process that started it ends."""
    _system.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it has ended before
        os._exit(1)


def confine(folder: Path | None = None, readable: Iterable[Path] = ()) -> tuple[str, ...]:
    """Take from this process for good what reading an upload does not need; returns the walls that could be put up.

    It may write in ``folder`` alone, and read in ``readable``, Python's libraries and this package. It has no other
    files, no sockets and no programs, starts no processes, and sees no others. Refused calls fail with EPERM or EACCES.
    """
    if sys.platform != "linux":
        return ()
    _system.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    walls = [CAPABILITIES] * drop_capabilities()
    walls += [FILES] * fence_files([folder] if folder else [], [*python_paths(), *map(Path, READABLE), *readable])
    walls += [CALLS] * filter_calls(writing=FILES in walls or folder is not None)
    return tuple(walls)


def python_paths() -> Iterator[Path]:
    """The folders from which Python imports, without that of the whole repository, which may hold secrets and data."""
    package = Path(__file__).parent
    yield package
    yield Path(sys.base_prefix, "lib")
    yield from (Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    yield from (Path(entry) for entry in sys.path if entry and not package.is_relative_to(Path(entry).resolve()))


def drop_capabilities() -> bool:
    """Give up the rights of a superuser, but for reading files of other owners; returns whether that worked."""
    header, data = struct.pack("Ii", 0x20080522, 0), ctypes.create_string_buffer(24)
    if _system.capget(header, data):
        return False
    effective, permitted, _, *_ = struct.unpack("6I", data.raw)
    kept = struct.pack("6I", effective & KEEP_READING, permitted & KEEP_READING, 0, 0, 0, 0)
    return bool(_system.capset(header, kept) == 0)


def fence_files(writable: Collection[Path], readable: Collection[Path]) -> bool:
    """Leave nothing of the file system but some folders and files; returns whether the kernel can do that (Landlock).

    Its later versions keep TCP, signals and abstract sockets from leaving this process as well.
    """
    version = _system.syscall(LANDLOCK, None, 0, 1)
    if version < 1:
        return False
    handled = (1 << KNOWN_RIGHTS[min(version, 5)]) - 1
    rules = struct.pack("QQQ", handled, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    ruleset = _system.syscall(LANDLOCK, rules, len(rules), 0)
    if ruleset < 0:
        return False
    try:
        for path in readable:
            open_path(ruleset, path, READ_FILE | READ_DIR)
        open_path(ruleset, Path(os.devnull), READ_FILE | WRITE_FILE)
        for path in writable:
            open_path(ruleset, path, handled & ~EXECUTE & ~SPECIAL_FILES)
        return bool(_system.syscall(LANDLOCK + 2, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def open_path(ruleset: int, path: Path, rights: int) -> None:
    """Let a path, and what is beneath it, be used; nothing where there is no such path."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        allowed = rights if path.is_dir() else rights & (READ_FILE | WRITE_FILE)
        _system.syscall(LANDLOCK + 1, ruleset, 1, struct.pack("=Qi", allowed, place), 0)
    finally:
        os.close(place)


def filter_calls(writing: bool) -> bool:
    """Refuse system calls in all threads of this process; returns whether the kernel can do that (seccomp)."""
    machine = MACHINES.get(platform.machine())
    if machine is None or sys.maxsize < 2**32:
        return False
    program = b"".join(struct.pack("HBBI", *step) for step in write_filter(*machine, writing))
    lines = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(lines))
    return bool(_system.syscall(machine[2]["seccomp"], 1, 1, header) == 0)  # set a filter, in every thread


def write_filter(
    place: int, machine: int, numbers: Mapping[str, int], writing: bool
) -> Iterator[tuple[int, int, int, int]]:
    """Write the filter of system calls as instructions: code, how many to skip if true and if not, operand."""
    yield from ((LOAD, 0, 0, 4), (EQUAL, 1, 0, machine), (RETURN, 0, 0, REFUSE))  # calls as of another machine
    yield from ((LOAD, 0, 0, 0), (AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, REFUSE))  # x86_64's short form
    for pair in [*REFUSED.values(), *([] if writing else WRITING.values())]:
        if (number := pair[place]) is not None:
            yield from ((EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE))
    for number in (CLONE3, *([] if writing else [OPENAT2])):  # these hide what they ask for: libraries then use others
        yield from ((EQUAL, 0, 1, number), (RETURN, 0, 0, MISSING))
    written = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    filtered = [  # which call, which of its arguments, how it is compared, and what follows if it holds, and if not
        ("clone", 0, ANY_BIT, CLONE_THREAD, ALLOW, REFUSE),
        ("kill", 0, EQUAL, os.getpid(), ALLOW, REFUSE),
        ("tgkill", 0, EQUAL, os.getpid(), ALLOW, REFUSE),
        ("prlimit64", 0, EQUAL, 0, ALLOW, REFUSE),
        ("prctl", 0, EQUAL, PR_SET_PDEATHSIG, REFUSE, ALLOW),
        *([] if writing else [("open", 1, ANY_BIT, written, REFUSE, ALLOW)]),
        *([] if writing else [("openat", 2, ANY_BIT, written, REFUSE, ALLOW)]),
    ]
    for name, argument, comparison, operand, if_true, if_not in filtered:
        if name in numbers:
            yield from ((EQUAL, 0, 4, numbers[name]), (LOAD, 0, 0, 16 + 8 * argument), (comparison, 0, 1, operand))
            yield from ((RETURN, 0, 0, if_true), (RETURN, 0, 0, if_not))
    yield (RETURN, 0, 0, ALLOW)
