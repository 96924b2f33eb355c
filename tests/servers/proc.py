# SPDX-License-Identifier: MIT
"""What /proc shows of a server: its image, its descriptors, its processes, its listeners."""

import os


def stack(pid):
    """The address range of the main thread's stack. Every exec moves it (ASLR). None: the process has none now."""
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
            for line in maps:
                if line.endswith("[stack]\n"):
                    return line.split()[0]
    except OSError:
        pass
    return None


def descriptors(pid):
    """{fd: what it points to}"""
    found = {}
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                found[int(fd)] = os.readlink(f"/proc/{pid}/fd/{fd}")
            except OSError:
                pass        # closed since listdir()
    except OSError:
        pass
    return found


def command(pid):
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as words:
            return words.read().replace("\0", " ")
    except OSError:
        return ""


def memfds(targets):
    return [target for target in targets if target.startswith("/memfd:")]


def _stat(pid):
    """(parent, group, session), or None"""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return int(fields[1]), int(fields[2]), int(fields[3])


def family(pid):
    """The pids of the server, its process group, its session and its descendants, zombies included."""
    everyone = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            stat = _stat(int(entry))
            if stat:
                everyone[int(entry)] = stat
    members = {other for other, (_, group, session) in everyone.items() if pid in (other, group, session)}
    grows = True
    while grows:
        born = {other for other, stat in everyone.items() if stat[0] in members} - members
        members |= born
        grows = bool(born)
    return members


def listeners(pid, port):
    """The inodes of the TCP sockets, v4 and v6, that listen on a port."""
    found = set()
    for table in ("tcp", "tcp6"):
        for fields in _rows(f"/proc/{pid}/net/{table}"):
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(int(fields[9]))
    return found


def unix_listeners(pid, path):
    """The inodes of the unix sockets that listen on a path."""
    accepts_connections = 0x10000
    return {int(fields[6]) for fields in _rows(f"/proc/{pid}/net/unix")
            if len(fields) > 7 and fields[7] == path and int(fields[3], 16) & accepts_connections}


def datagram_sockets(pid, port):
    """{inode: datagrams dropped because the queue was full} of the UDP sockets bound to a port."""
    return {int(fields[9]): int(fields[12]) for fields in _rows(f"/proc/{pid}/net/udp")
            if int(fields[1].rpartition(":")[2], 16) == port}


def hold(pids, inodes):
    """Whether every one of these sockets is open in one of the processes."""
    targets = {target for pid in pids for target in descriptors(pid).values()}
    return all(f"socket:[{inode}]" in targets for inode in inodes)


def _rows(path):
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as table:
            next(table)
            return [line.split() for line in table]
    except (OSError, StopIteration):
        return []
