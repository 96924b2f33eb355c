# SPDX-License-Identifier: MIT
"""Ports for tests that run in parallel. Each is free for TCP and UDP, IPv4 and IPv6, and below the kernel's range of
ephemeral ports."""

import random
import socket
import threading

FROM, TO = 10000, 19996

_lock = threading.Lock()
_next = random.randrange(FROM, TO, 4)


def _is_free(port):
    for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            try:
                probe = socket.socket(family, kind)
            except OSError:         # a machine without IPv6
                continue
            with probe:
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                try:
                    probe.bind((host, port))
                except OSError:
                    return False
    return True


def four():
    """The first of four free ports in a row, given out once."""
    global _next
    with _lock:
        for _ in range(FROM, TO, 4):
            first = _next
            _next = _next + 4 if _next + 8 < TO else FROM
            if all(_is_free(port) for port in range(first, first + 4)):
                return first
    raise OSError("no four free ports in a row")
