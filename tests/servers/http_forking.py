# SPDX-License-Identifier: MIT
"""A server that forks for each client."""

import socketserver
import sys
from http.server import HTTPServer

from http_threading import Handler


class Server(socketserver.ForkingMixIn, HTTPServer):
    request_queue_size = 128
    max_children = 1000


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
