"""System call numbers, and which calls a sandbox may make.

The tables hold only the calls that this package names; arm64 lacks the older ones (open, fork, poll, …).
"""

from __future__ import annotations

import os


def _table(text: str) -> dict[str, int]:
    pairs = (entry.split("=") for entry in text.split())
    return {name: int(number) for name, number in pairs}


def words(text: str) -> list[str]:
    return text.split()


X86_64 = _table(
    """
    read=0 write=1 open=2 close=3 stat=4 fstat=5 lstat=6 poll=7 lseek=8 mmap=9 mprotect=10 munmap=11 brk=12
    rt_sigaction=13 rt_sigprocmask=14 rt_sigreturn=15 ioctl=16 pread64=17 pwrite64=18 readv=19 writev=20 access=21 pipe=22
    select=23 sched_yield=24 mremap=25 madvise=28 dup=32 dup2=33 nanosleep=35 getpid=39 clone=56 fork=57 vfork=58 exit=60
    wait4=61 kill=62 uname=63 fcntl=72 fsync=74 fdatasync=75 ftruncate=77 getcwd=79 chdir=80 rename=82 mkdir=83 rmdir=84
    unlink=87 readlink=89 chmod=90 umask=95 gettimeofday=96 getrlimit=97 getrusage=98 times=100 getuid=102 getgid=104 geteuid=107
    getegid=108 getppid=110 getpgrp=111 getgroups=115 getresuid=118 getresgid=120 sigaltstack=131 pivot_root=155 prctl=157
    setrlimit=160 gettid=186 time=201 futex=202 sched_getaffinity=204 getdents64=217 set_tid_address=218
    restart_syscall=219 clock_gettime=228 clock_getres=229 clock_nanosleep=230 exit_group=231 tgkill=234 openat=257
    mkdirat=258 newfstatat=262 unlinkat=263 renameat=264 readlinkat=267 fchmodat=268 faccessat=269 pselect6=270 ppoll=271
    set_robust_list=273 dup3=292 pipe2=293 prlimit64=302 getcpu=309 renameat2=316 seccomp=317 getrandom=318 statx=332
    rseq=334 clone3=435 close_range=436 faccessat2=439 landlock_create_ruleset=444 landlock_add_rule=445
    landlock_restrict_self=446 sendto=44 recvfrom=45 socketpair=53 epoll_wait=232 epoll_ctl=233 epoll_pwait=281 epoll_create1=291
    """
)

ARM64 = _table(
    """
    getcwd=17 dup=23 dup3=24 fcntl=25 ioctl=29 mkdirat=34 unlinkat=35 renameat=38 pivot_root=41 ftruncate=46 faccessat=48
    chdir=49 fchmodat=53 openat=56 close=57 pipe2=59 getdents64=61 lseek=62 read=63 write=64 readv=65 writev=66 pread64=67
    pwrite64=68 pselect6=72 ppoll=73 readlinkat=78 newfstatat=79 fstat=80 fsync=82 fdatasync=83 exit=93 exit_group=94
    set_tid_address=96 futex=98 set_robust_list=99 nanosleep=101 clock_gettime=113 clock_getres=114 clock_nanosleep=115
    sched_getaffinity=123 sched_yield=124 restart_syscall=128 kill=129 tgkill=131 sigaltstack=132 rt_sigaction=134
    rt_sigprocmask=135 rt_sigreturn=139 getresuid=148 getresgid=150 times=153 getgroups=158 uname=160 getrlimit=163
    setrlimit=164 getrusage=165 umask=166 prctl=167 getcpu=168 gettimeofday=169 getpid=172 getppid=173 getuid=174
    geteuid=175 getgid=176 getegid=177 gettid=178 brk=214 munmap=215 mremap=216 clone=220 mmap=222 mprotect=226
    madvise=233 wait4=260 prlimit64=261 renameat2=276 seccomp=277 getrandom=278 statx=291 rseq=293 clone3=435
    close_range=436 faccessat2=439 landlock_create_ruleset=444 landlock_add_rule=445 landlock_restrict_self=446
    epoll_create1=20 epoll_ctl=21 epoll_pwait=22 socketpair=199 sendto=206 recvfrom=207
    """
)

AUDIT_ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
TABLES = {"x86_64": X86_64, "aarch64": ARM64}

# Computing: memory, time, own signals' handlers, open descriptors.
COMPUTE = words(
    """
    read write readv writev pread64 pwrite64 close close_range fstat lseek mmap mprotect munmap brk mremap madvise
    rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack dup dup2 dup3 poll ppoll select pselect6 pipe pipe2
    getpid getppid gettid getuid geteuid getgid getegid getgroups getresuid getresgid getpgrp getrandom
    clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times getrusage uname getrlimit futex
    set_robust_list rseq set_tid_address restart_syscall exit exit_group sched_yield sched_getaffinity getcpu umask
    epoll_create1 epoll_ctl epoll_wait epoll_pwait recvfrom
    """
)

# Reading paths: Landlock or the mount namespace decides which.
READ_PATHS = words(
    """
    open openat stat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat getdents64 getcwd chdir
    """
)

# Writing paths: only where there is a scratch folder, which is wiped.
WRITE_PATHS = words(
    """
    unlink unlinkat rmdir mkdir mkdirat rename renameat renameat2 ftruncate fsync fdatasync
    """
)

# What the zygote needs to start and end its children; the children themselves lose these.
SUPERVISE = words("clone fork vfork kill wait4 prctl prlimit64 setrlimit seccomp chmod fchmodat")


def machine() -> str:
    """x86_64 or aarch64. Raises OSError on any other machine."""
    name = os.uname().machine
    if name not in TABLES:
        raise OSError(f"the machine is {name}, must be x86_64 or aarch64, whose system calls the sandbox knows")
    return name


def numbers(names: list[str]) -> list[int]:
    """The numbers of those names that this machine has."""
    table = TABLES[machine()]
    return sorted(table[name] for name in names if name in table)
