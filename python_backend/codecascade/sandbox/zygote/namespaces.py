"""Own user, mount, process, network, IPC and host-name namespaces, with a root that holds only the standard library."""

from __future__ import annotations

import os

from codecascade.sandbox.zygote import privileges, system

_NAMESPACES = (
    system.CLONE_NEWNS
    | system.CLONE_NEWPID
    | system.CLONE_NEWNET
    | system.CLONE_NEWIPC
    | system.CLONE_NEWUTS
    | system.CLONE_NEWCGROUP
)
_CAP_SYS_ADMIN = 21
_MOUNT_POINTS = ("/tmp", "/mnt", "/var")  # one is covered by a private mount: nothing is written to it

SCRATCH = "/scratch"


def enter(library: str, others: list[str], scratch_bytes: int, scratch_files: int) -> None:
    """Leave the host's namespaces. Raises OSError naming the call that was refused.

    library: the standard library's folder. others: more folders and files. Nothing else of the host stays visible; these are read
    only, at their own paths.
    Afterwards the caller is the first process of a new process namespace, as the sandbox's user and without capabilities;
    the original process only waits for it.
    """
    os.chdir(library)  # before the user changes: it may be in a private home. The new mount namespace keeps this folder open
    if system.has_capability(_CAP_SYS_ADMIN):
        system.unshare(_NAMESPACES)
        owner = privileges.sandbox_user()
        _build_root(library, others, owner, scratch_bytes, scratch_files)
        privileges.become(owner)
    else:
        owner = privileges.sandbox_user()
        privileges.become(owner)
        system.prctl_call(system.PR_SET_DUMPABLE, 1)()  # otherwise root owns the map files below
        system.unshare(system.CLONE_NEWUSER | _NAMESPACES)
        _map_user(owner)
        _build_root(library, others, owner, scratch_bytes, scratch_files)
    system.drop_capabilities()
    _become_first_process()


def _map_user(owner: privileges.User) -> None:
    _write_own("setgroups", "deny")
    _write_own("uid_map", f"{owner.uid} {owner.uid} 1")
    _write_own("gid_map", f"{owner.gid} {owner.gid} 1")


def _write_own(name: str, line: str) -> None:
    try:
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)
    except OSError as error:
        raise OSError(error.errno, f"{name}: {error.strerror}") from None


def _build_root(library: str, others: list[str], owner: privileges.User, scratch_bytes: int, scratch_files: int) -> None:
    """Make the root a small read-only tmpfs with the library (the current folder), the others and a scratch folder."""
    system.mount("none", "/", "", system.MS_REC | system.MS_PRIVATE)
    beneath = [point for point in _MOUNT_POINTS if any(path.startswith(f"{point}/") for path in others)]
    root = next(point for point in _MOUNT_POINTS if os.path.isdir(point) and point not in beneath)
    hardened = system.MS_NOSUID | system.MS_NODEV
    system.mount("tmpfs", root, "tmpfs", hardened, "size=64k,nr_inodes=256,mode=0755")
    for source, path in ((".", library), *((path, path) for path in others if not path.startswith(library + os.sep))):
        target = root + path
        os.makedirs(target if os.path.isdir(source) else os.path.dirname(target), exist_ok=True)
        if not os.path.isdir(source):
            open(target, "w").close()
        system.mount(source, target, "", system.MS_BIND)
        system.mount("none", target, "", system.MS_BIND | system.MS_REMOUNT | system.MS_RDONLY | hardened)
    os.mkdir(root + SCRATCH)
    limits = f"size={scratch_bytes},nr_inodes={scratch_files},mode=0700,uid={owner.uid},gid={owner.gid}"
    system.mount("tmpfs", root + SCRATCH, "tmpfs", hardened | system.MS_NOEXEC, limits)
    system.mount("none", root, "", system.MS_REMOUNT | system.MS_RDONLY | hardened)
    os.chdir(root)
    try:
        system.pivot_root(".", ".")
        system.unmount(".")
    except OSError:  # pivot_root cannot replace the root of an initramfs
        system.mount(".", "/", "", system.MS_MOVE)
        os.chroot(".")
    os.chdir("/")


def _become_first_process() -> None:
    """Continue in a child and wait for it here: unshare puts only children into the new process namespace."""
    child = os.fork()
    if child == 0:
        return
    os.closerange(0, 64)
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
