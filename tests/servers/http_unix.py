# SPDX-License-Identifier: MIT
"""A small unmodified server on a unix socket path. Before bind() it unlinks a stale path, as most servers do."""

import os
import socketserver
import sys

from http_threading import Handler


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self):
        try:
            os.unlink(self.server_address)
        except FileNotFoundError:
            pass
        super().server_bind()


if __name__ == "__main__":
    UnixServer(sys.argv[1], Handler).serve_forever()
