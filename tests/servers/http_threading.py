# SPDX-License-Identifier: MIT
"""A small unmodified server: ThreadingHTTPServer, HTTP/1.1 with keep-alive, on a TCP port."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from protocols import BODY


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1       # head and body in one segment

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
