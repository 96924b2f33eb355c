#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Each client gets the next number. The number stands in a memfd that cpr_save_fd keeps, so that it goes on over
restarts; the listener is kept without a word of this program.

    cpr-exec -- ./tickets.py 8000
"""
import ctypes
import errno
import mmap
import os
import socket
import struct
import sys

CPR = ctypes.CDLL(None, use_errno=True)     # cpr-exec has preloaded it


def find_fd(name, number):
    fd = CPR.cpr_find_fd(name.encode(), number)
    if fd < 0 and ctypes.get_errno() != errno.ENOENT:
        raise OSError(ctypes.get_errno(), f"cpr_find_fd: {os.strerror(ctypes.get_errno())}")
    return fd


def save_fd(name, number, fd):
    if CPR.cpr_save_fd(name.encode(), number, fd):
        raise OSError(ctypes.get_errno(), f"cpr_save_fd: {os.strerror(ctypes.get_errno())}")


def take_number():
    fd = find_fd("tickets", 0)
    if fd < 0:      # the first generation
        fd = os.memfd_create("tickets")
        os.truncate(fd, 8)
        save_fd("tickets", 0, fd)
    return mmap.mmap(fd, 8)


def main():
    number = take_number()
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1]) if sys.argv[1:] else 8000))
    while True:
        client, _ = listener.accept()
        last, = struct.unpack("q", number[:])
        number[:] = struct.pack("q", last + 1)
        with client:
            client.sendall(f"{last + 1}, of generation {CPR.cpr_generation()}\n".encode())


if __name__ == "__main__":
    main()
