"""Programs that try to escape, to disturb others, or to get a verdict that they do not deserve. Each attacks one property.

`attack()` returns "reached" if it succeeds. Names in capitals are replaced by live targets: PORT, ABSTRACT, SOCKET, SECRET,
FOLDER, SPARE (a world-writable file in FOLDER) and NR_name (system call numbers).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import dedent, indent

BLIND, TICK = "blind", "tick"
REACHED = "assert attack() == 'reached'"


@dataclass(frozen=True)
class Case:
    name: str
    source: str
    line: str = REACHED
    control: bool = False
    """Whether the attack succeeds without isolation, which shows that the case can see what it looks for."""
    modes: tuple[str, ...] = (BLIND, TICK)
    """Blind alone for a value that forges its own comparison: only there does the parent compare."""

    def aimed(self, targets: Mapping[str, object]) -> str:
        """The source with live targets filled in."""
        column = ("x86_64", "aarch64").index(os.uname().machine)
        source = re.sub(r"\bNR_(\w+)", lambda match: str(_NUMBERS[match[1]][column]), self.source)
        return re.sub("|".join(rf"\b{name}\b" for name in targets), lambda match: repr(targets[match[0]]), source)


# x86-64, arm64
_NUMBERS = {
    "add_key": (248, 217), "bpf": (321, 280), "capset": (126, 91), "clone": (56, 220), "clone3": (435, 435),
    "init_module": (175, 105),
    "io_uring_setup": (425, 425), "ioprio_set": (251, 30), "kcmp": (312, 272), "keyctl": (250, 219),
    "memfd_create": (319, 279), "mount": (165, 40), "mq_open": (240, 180), "msgget": (68, 186), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "openat2": (437, 437), "perf_event_open": (298, 241), "personality": (135, 92),
    "pidfd_getfd": (438, 438), "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424), "pivot_root": (155, 41),
    "prctl": (157, 167), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "ptrace": (101, 117),
    "rt_sigqueueinfo": (129, 138), "seccomp": (317, 277), "semget": (64, 190), "setns": (308, 268), "shmget": (29, 194),
    "socket": (41, 198), "swapon": (167, 224), "syslog": (103, 116), "tgkill": (234, 131), "unshare": (272, 97),
    "userfaultfd": (323, 282), "vmsplice": (278, 75), "inotify_init1": (294, 26), "fanotify_init": (300, 262),
}  # fmt: skip

_SYSCALL = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def syscall(*arguments):
    result = libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result
"""


def reaches(name: str, body: str, control: bool = False) -> Case:
    return Case(name, f"def attack():\n{indent(dedent(body).strip(), '    ')}\n    return 'reached'\n", control=control)


def calls(name: str, body: str, control: bool = False) -> Case:
    case = reaches(name, body, control)
    return Case(name, _SYSCALL + case.source, control=control)


def program(name: str, source: str, line: str = "assert f(1) == 12345", modes: tuple[str, ...] = (BLIND, TICK)) -> Case:
    return Case(name, dedent(source).strip() + "\n", line, modes=modes)


NETWORK = [
    reaches("tcp connect", "import socket; socket.create_connection(('127.0.0.1', PORT), 1)", control=True),
    reaches("tcp listen", "import socket; socket.create_server(('127.0.0.1', 0))", control=True),
    reaches("udp send", "import socket; socket.socket(2, 2).sendto(b'x', ('127.0.0.1', PORT))", control=True),
    reaches("unix socket by path", "import socket; socket.socket(socket.AF_UNIX).connect(SOCKET)", control=True),
    reaches("abstract unix socket", "import socket; socket.socket(socket.AF_UNIX).connect(ABSTRACT)", control=True),
    reaches("pair of datagram sockets", "import socket; socket.socketpair(type=socket.SOCK_DGRAM)", control=True),
    reaches("pair of packet sockets", "import socket; socket.socketpair(type=socket.SOCK_SEQPACKET)", control=True),
    reaches("pair of another family", "import socket; socket.socketpair(socket.AF_TIPC, socket.SOCK_STREAM)"),
    reaches("send from a pair to an address", """
        import socket
        a, b = socket.socketpair()
        a.sendto(b'x', ABSTRACT)
        """),
    reaches("send a descriptor", """
        import array, socket
        a, b = socket.socketpair()
        a.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0]))])
        """, control=True),
    reaches("connect a pair elsewhere", "import socket; socket.socketpair()[0].connect(ABSTRACT)"),
    reaches("name a pair", "import socket; socket.socketpair()[0].bind('\\0name')"),
    reaches("change a pair's options", """
        import socket
        socket.socketpair()[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 30)
        """, control=True),
    reaches("network by an event loop", """
        import asyncio
        asyncio.run(asyncio.open_connection('127.0.0.1', PORT))
        """, control=True),
    reaches("local socket by an event loop", """
        import asyncio
        asyncio.run(asyncio.open_unix_connection(SOCKET))
        """, control=True),
    reaches("process by an event loop", """
        import asyncio
        async def run():
            await (await asyncio.create_subprocess_exec('true')).wait()
        asyncio.run(run())
        """, control=True),
    reaches("thread by an event loop", "import asyncio; asyncio.run(asyncio.to_thread(int))", control=True),
    reaches("netlink", "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)", control=True),
    reaches("packet socket", "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)"),
    reaches("kernel crypto socket", "import socket; socket.socket(38, socket.SOCK_SEQPACKET, 0)"),
    reaches("vsock", "import socket; socket.socket(40, socket.SOCK_STREAM, 0)"),
    reaches("name lookup", "import socket; socket.getaddrinfo('localhost', 80)", control=True),
    reaches("urllib", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:%d' % PORT, timeout=1)"),
    calls("socket by number", "syscall(NR_socket, 2, 1, 0)", control=True),
    calls("io_uring", "syscall(NR_io_uring_setup, 1, ctypes.create_string_buffer(256))"),
]  # fmt: skip

FILES = [
    reaches("readable secret", "open(SECRET).read()", control=True),
    reaches("secret by os.open", "import os; os.open(SECRET, os.O_RDONLY)", control=True),
    calls("secret by openat2", "syscall(NR_openat2, -100, SECRET.encode(), ctypes.create_string_buffer(24), 24)", control=True),
    reaches("secret as a module", """
        import importlib.util
        import types
        importlib.util.spec_from_file_location('secret', SECRET + '.py').loader.exec_module(types.ModuleType('secret'))
        """, control=True),
    reaches("file of a database", "import sqlite3; sqlite3.connect(FOLDER + '/db').execute('create table t(x)')", control=True),
    reaches("passwords", "open('/etc/passwd').read()", control=True),
    reaches("own environment", "open('/proc/self/environ', 'rb').read()", control=True),
    reaches("own memory", "open('/proc/self/mem', 'rb')", control=True),
    reaches("parent's maps", "import os; open(f'/proc/{os.getppid()}/maps').read()", control=True),
    reaches("first process's environment", "open('/proc/1/environ', 'rb').read()"),
    reaches("list the root", "import os; assert 'etc' in os.listdir('/')", control=True),
    reaches("list the folder of a secret", "import os; os.listdir(FOLDER)", control=True),
    reaches("write to a shared folder", "open(FOLDER + '/new', 'w').write('x')", control=True),
    reaches("write to a shared file", "open(SPARE, 'a').write('x')", control=True),
    reaches("write to /tmp", "import tempfile; tempfile.TemporaryFile(dir='/tmp')", control=True),
    reaches("write to /var/tmp", "import tempfile; tempfile.TemporaryFile(dir='/var/tmp')", control=True),
    reaches("write to /dev/shm", "import tempfile; tempfile.TemporaryFile(dir='/dev/shm')", control=True),
    reaches("shared memory", "from multiprocessing import shared_memory; shared_memory.SharedMemory(create=True, size=8)"),
    reaches("make a folder", "import os; os.mkdir(FOLDER + '/made')", control=True),
    reaches("symbolic link to a secret", "import os; os.symlink(SECRET, 'link'); open('link').read()"),
    reaches("hard link to a secret", "import os; os.link(SPARE, FOLDER + '/linked')", control=True),
    reaches("rename", "import os; os.rename(SPARE, FOLDER + '/x'); os.rename(FOLDER + '/x', SPARE)", control=True),
    reaches("remove", "import os; os.unlink(SPARE)"),
    reaches("truncate", "import os; os.truncate(SPARE, 0)", control=True),
    reaches("change a mode", "import os; os.chmod(SPARE, 0o666)", control=True),
    reaches("change an owner", "import os; os.chown(SPARE, -1, -1)", control=True),
    reaches("change a time", "import os; os.utime(SPARE)", control=True),
    reaches("set an attribute", "import os; os.setxattr(SPARE, 'user.x', b'x')"),
    reaches("make a device", "import os; os.mknod(FOLDER + '/device', 0o20666, os.makedev(1, 3))"),
    reaches("make a fifo", "import os; os.mkfifo(FOLDER + '/fifo')", control=True),
    reaches("change the library", "import os; open(os.__file__, 'a').write('')"),
    reaches("write beside the library", "import os; open(os.path.dirname(os.__file__) + '/new.py', 'w')"),
    reaches("change the root", "import os; os.chroot('/')"),
    reaches("climb out of a folder descriptor", """
        import os
        for fd in range(3, 32):
            try:
                os.open('../../../../../../etc/passwd', os.O_RDONLY, dir_fd=fd)
                return 'reached'
            except OSError:
                pass
        raise OSError
        """),
    reaches("read what was left open", """
        import os
        for fd in range(3, 64):
            try:
                if os.read(fd, 1):
                    return 'reached'
            except OSError:
                pass
        raise OSError
        """),
    calls("memory file", "syscall(NR_memfd_create, b'x', 0)", control=True),
    calls("mount", "syscall(NR_mount, b'none', FOLDER.encode(), b'tmpfs', 0, None)"),
    calls("pivot the root", "syscall(NR_pivot_root, b'.', b'.')"),
    calls("file handle", "syscall(NR_name_to_handle_at, -100, SECRET.encode(), ctypes.create_string_buffer(144),"
          " ctypes.create_string_buffer(4), 0)"),
    calls("open by handle", "syscall(NR_open_by_handle_at, -100, ctypes.create_string_buffer(144), 0)"),
    calls("watch files", "syscall(NR_inotify_init1, 0)", control=True),
    calls("watch a file system", "syscall(NR_fanotify_init, 0, 0)"),
]  # fmt: skip

PROCESSES = [
    reaches("fork", "import os\nif os.fork() == 0:\n    os._exit(0)", control=True),
    reaches("fork bomb", "import os\nwhile True:\n    os.fork()"),
    reaches("daemon", """
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(60)
            os._exit(0)
        """),
    reaches("vfork and exec", "import subprocess; subprocess.run(['true'], check=True)", control=True),
    reaches("spawn", "import os; os.posix_spawn('/bin/true', ['true'], {})", control=True),
    reaches("shell", "import os; assert os.system('true') == 0", control=True),
    reaches("become another program", "import os; os.execv('/bin/echo', ['echo'])"),
    reaches("multiprocessing", "import multiprocessing; multiprocessing.Process(target=print).start()"),
    reaches("thread", "import threading; threading.Thread(target=int).start()", control=True),
    reaches("thousand threads", """
        import _thread, time
        for _ in range(1000):
            _thread.start_new_thread(time.sleep, (9,))
        """),
    calls("clone by number", "if syscall(NR_clone, 17, 0, 0, 0, 0) == 0:\n    libc._exit(0)", control=True),
    calls("clone3 by number", "syscall(NR_clone3, ctypes.create_string_buffer(88), 88)"),
    reaches("see the parent", "import os; os.kill(os.getppid(), 0)", control=True),
    reaches("kill the parent", "import os; os.kill(os.getppid(), 9)"),
    reaches("kill everybody", "import os; os.kill(-1, 9)"),
    reaches("kill the group", "import os; os.killpg(0, 9)"),
    reaches("stop itself", "import os; os.kill(os.getpid(), 19)"),
    calls("kill a thread of the parent", "syscall(NR_tgkill, os.getppid(), os.getppid(), 9)"),
    calls("queue a signal", "syscall(NR_rt_sigqueueinfo, os.getppid(), 9, ctypes.create_string_buffer(128))"),
    calls("process descriptor", "syscall(NR_pidfd_open, os.getpid(), 0)", control=True),
    calls("signal by descriptor", "syscall(NR_pidfd_send_signal, syscall(NR_pidfd_open, os.getppid(), 0), 9, None, 0)"),
    calls("take a descriptor", "syscall(NR_pidfd_getfd, syscall(NR_pidfd_open, os.getppid(), 0), 0, 0)"),
    calls("trace the parent", "syscall(NR_ptrace, 0x4206, os.getppid(), 0, 0)"),
    calls("be traced", "syscall(NR_ptrace, 0, 0, 0, 0)", control=True),
    calls("read the parent's memory", """
        buffer = ctypes.create_string_buffer(8)
        to = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)
        syscall(NR_process_vm_readv, os.getppid(), to, 1, (ctypes.c_size_t * 2)(id(None), 8), 1, 0)
        """),
    calls("write the parent's memory", """
        what = (ctypes.c_size_t * 2)(id(None), 8)
        syscall(NR_process_vm_writev, os.getppid(), what, 1, what, 1, 0)
        """),
    calls("compare processes", "syscall(NR_kcmp, os.getpid(), os.getpid(), 0, 0, 0)"),
    calls("outlive the zygote", "syscall(NR_prctl, 1, 0, 0, 0, 0)", control=True),
    calls("new user space", "syscall(NR_unshare, 0x10000000)"),
    calls("join a space", "syscall(NR_setns, 3, 0)"),
    calls("kernel program", "syscall(NR_bpf, 0, (ctypes.c_uint32 * 32)(2, 4, 4, 1), 128)"),
    calls("key ring", "syscall(NR_keyctl, 0, -3, 1)", control=True),
    calls("add a key", "syscall(NR_add_key, b'user', b'x', b'y', 1, -3)"),
    calls("own filter", "syscall(NR_seccomp, 1, 0, None)"),
    calls("personality", "syscall(NR_personality, 0x0040000)", control=True),
    calls("page faults", "syscall(NR_userfaultfd, 1)", control=True),
    calls("performance counters", "syscall(NR_perf_event_open, ctypes.create_string_buffer(120), 0, -1, -1, 0)"),
    calls("kernel log", "syscall(NR_syslog, 10, None, 0)"),
    calls("kernel module", "syscall(NR_init_module, None, 0, b'')"),
    calls("swap", "syscall(NR_swapon, b'/none', 0)"),
    calls("capabilities", "syscall(NR_capset, (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())", control=True),
    calls("shared memory by number", "syscall(NR_shmget, 0, 4096, 0o1600)"),
    calls("message queue", "syscall(NR_msgget, 0, 0o1600)"),
    calls("semaphores", "syscall(NR_semget, 0, 1, 0o1600)"),
    calls("named queue", "syscall(NR_mq_open, b'x', 0o102, 0o600, None)"),
    reaches("raise a limit", "import resource; resource.setrlimit(resource.RLIMIT_CPU, (90, 90))"),
    reaches("become root", "import os; os.setuid(0)"),
    reaches("join groups", "import os; os.setgroups([0])"),
    reaches("choose a core", "import os; os.sched_setaffinity(0, os.sched_getaffinity(0))", control=True),
    reaches("choose a priority", "import os; os.nice(0); os.setpriority(0, 0, 1)", control=True),
    reaches("signals of a descriptor", "import fcntl; fcntl.fcntl(1, fcntl.F_SETOWN, 1)"),
    reaches("mark a shared descriptor", "import fcntl; fcntl.fcntl(1, fcntl.F_SETFL, 0o4000)", control=True),
    reaches("host name", "import socket; socket.sethostname('x')"),
]  # fmt: skip

# 32-bit system call and the x32 one, as machine code.
_MACHINE_CODE = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(CODE)
print(ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))())
"""
if os.uname().machine == "x86_64":
    PROCESSES += [
        reaches("32-bit system call", _MACHINE_CODE.replace("CODE", r"b'\xb8\x14\x00\x00\x00\xcd\x80\xc3'"), control=True),
        reaches("x32 system call", _MACHINE_CODE.replace("CODE", r"b'\xb8\x27\x00\x00\x40\x0f\x05\xc3'"), control=True),
    ]

TIME = [
    program("loop outside the functions", "def f(x):\n    return 1\nwhile True:\n    pass"),
    program("loop", "def f(x):\n    while True:\n        pass"),
    program("sleep", "import time\ndef f(x):\n    time.sleep(600)"),
    program("loop that swallows everything", """
        def f(x):
            while True:
                try:
                    while True:
                        pass
                except BaseException:
                    pass
        """),
    program("loop that ignores signals", """
        import signal
        def f(x):
            for number in set(signal.valid_signals()) - {9, 19}:
                try:
                    signal.signal(number, signal.SIG_IGN)
                except OSError:
                    pass
            while True:
                pass
        """),
    program("loop that blocks signals", """
        import signal
        def f(x):
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            while True:
                pass
        """),
    program("regular expression", "import re\ndef f(x):\n    return re.match('(a+)+$', 'a' * 60 + 'b')"),
    program("power", "def f(x):\n    return 9 ** 9 ** 9"),
    program("endless iterator", "import itertools\ndef f(x):\n    return sum(itertools.repeat(0))"),
    program("endless finaliser", "class A:\n    def __del__(self):\n        while True:\n            pass\ndef f(x):\n    A()"),
    program("endless text of a value", """
        class A(int):
            def __repr__(self):
                while True:
                    pass
            __str__ = __hash__ = __eq__ = __repr__
        def f(x):
            return A(1)
        """),
]  # fmt: skip

MEMORY = [
    program("memory at once", "def f(x):\n    return len(bytearray(1 << 40))"),
    program("memory bit by bit", "def f(x):\n    kept = []\n    while True:\n        kept.append(bytes(1 << 20))"),
    program("memory of many small things", "def f(x):\n    kept = []\n    while True:\n        kept.append([kept])"),
    program("memory outside the functions", "kept = ['x' * (1 << 30), 'y' * (1 << 30)]\ndef f(x):\n    return 1"),
    program("huge number", "def f(x):\n    return 1 << (1 << 40)"),
    program("memory mapped", "import mmap\ndef f(x):\n    return len(mmap.mmap(-1, 1 << 30))"),
    program("value larger than its channel", "def f(x):\n    return 'x' * (1 << 26)"),
    program("value of many parts", "def f(x):\n    return [[[i] for i in range(1000)] for _ in range(1000)]"),
    program("value within itself", "def f(x):\n    a = []\n    a.append(a)\n    return a"),
    program("deep value", "def f(x):\n    a = []\n    for _ in range(100000):\n        a = [a]\n    return a"),
]  # fmt: skip

RESOURCES = [
    reaches("large file", "with open('large', 'wb') as file:\n    for _ in range(64):\n        file.write(bytes(1 << 20))"),
    reaches("many files that fill the disk", """
        for n in range(64):
            with open(f'part{n}', 'wb') as file:
                file.write(bytes(1 << 20))
        """),
    reaches("many files", "for n in range(100000):\n    open(f'file{n}', 'w').close()"),
    reaches("deep folders", "import os\nfor n in range(2000):\n    os.mkdir('d')\n    os.chdir('d')"),
    reaches("folder that cannot be listed", """
        import os
        os.mkdir('d')
        open('d/f', 'w').close()
        os.mkdir('d/e', 0o300)
        open('d/e/f', 'w').close()
        raise OSError
        """),
    reaches("make shared descriptors non-blocking", """
        import os
        for fd in range(3):
            os.set_blocking(fd, False)
        raise OSError
        """),
    reaches("many events", """
        import select
        kept = [select.epoll() for _ in range(1000)]
        """),
    reaches("many pairs", "import socket\nkept = [socket.socketpair() for _ in range(1000)]"),
    reaches("many descriptors", "import os\nfor _ in range(1000):\n    os.dup(0)"),
    reaches("many pipes", "import os\nfor _ in range(1000):\n    os.pipe()"),
]  # fmt: skip

CRASHES = [
    program("recursion", "def f(x):\n    return f(x)"),
    program("recursion without a limit", "import sys\nsys.setrecursionlimit(1 << 30)\ndef f(x):\n    return f(x)"),
    program("recursion in C", "def f(x):\n    a = []\n    for _ in range(10 ** 6):\n        a = [a]\n    return repr(a)"),
    program("null pointer", "import ctypes\ndef f(x):\n    return ctypes.string_at(0)"),
    program("abort", "import os\ndef f(x):\n    os.abort()"),
    program("fatal error", "import ctypes\ndef f(x):\n    ctypes.pythonapi.Py_FatalError(b'x')"),
    program("raised signal", "import signal\ndef f(x):\n    signal.raise_signal(signal.SIGKILL)"),
    program("stack smashed", "import ctypes\ndef f(x):\n    ctypes.memset(ctypes.addressof(ctypes.c_int()), 65, 1 << 20)"),
    program("deep parentheses", "x = " + "(" * 5000 + ")" * 5000),
    program("deep sum", "x = " + "+".join(["1"] * 12000) + "\ndef f(x):\n    return 1"),
    program("deep signs", "x = " + "-" * 30000 + "1\ndef f(x):\n    return 1"),
    program("deep attributes", "def f(x):\n    return x" + ".a" * 15000),
    program("deep blocks", "\n".join(" " * n + "if 1:" for n in range(95)) + "\n" + " " * 96 + "x = 1"),
    program("nothing", "\n"),
    program("null byte", "x = '\0'"),
    program("lone surrogate", "x = '\ud800'"),
    program("binary", "".join(map(chr, range(1, 256)))),
    program("wrong coding", "# -*- coding: nonsense -*-\ndef f(x):\n    return 1"),
]  # fmt: skip
