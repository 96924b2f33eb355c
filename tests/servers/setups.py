# SPDX-License-Identifier: MIT
"""The set-up of each server under test: one function a server, which fills its room and returns the command to run."""

import dataclasses
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable

from harness import HERE, Failure, program
from protocols import BODY, PATH

ROOT = os.geteuid() == 0
APACHE_MODULES = "/usr/lib/apache2/modules"
SETUPS = {}


@dataclasses.dataclass
class Setup:
    name: str
    prepare: Callable           # (room) -> command
    protocol: str = "http"
    unix: bool = False
    hangs_up: bool = False      # SIGHUP makes it exec itself: no drain, nothing is carried
    carries: bool = True        # a restart carries its idle connections
    ends_idle: bool = False     # on SIGTERM it closes idle connections, even if a request is on its way
    says_ended: Callable = None # (its output) -> how many idle connections it logs as closed by itself
    workers_bind: bool = False  # its workers bind the listeners
    beside: Callable = None     # (room) -> after a handover: a fault of its other sockets, or None
    cpr: tuple = ()             # more options of cpr-exec


def setup(name, **details):
    def register(prepare):
        SETUPS[name] = Setup(name, prepare, **details)
        return prepare
    return register


def documents(room):
    """A directory with the answer as a file."""
    directory = room.directory("documents")
    room.write("documents" + PATH, BODY.decode())
    return directory


def python(script, *arguments):
    return [sys.executable, "-B", os.path.join(HERE, script), *arguments]


def nginx_command(room, processes, listen="", server="", connections=256):
    user = "user www-data;" if ROOT else ""
    temporary = "\n".join(f"    {kind}_temp_path {room.directory('tmp')}/{kind};"
                          for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    configuration = room.write("nginx.conf", f"""
daemon off;
{user}
{processes}
pid {room.path("nginx.pid")};
error_log stderr;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
{temporary}
    sendfile on;
    server {{
        listen 127.0.0.1:{room.port} {listen};
        root {documents(room)};
        {server}
    }}
}}
""")
    return [program("nginx"), "-p", room.dir, "-c", configuration, "-e", "stderr"]


@setup("nginx")
def nginx(room):
    return nginx_command(room, "worker_processes 2;")


@setup("nginx-single")
def nginx_single(room):
    return nginx_command(room, "master_process off;")


@setup("redis-carry", protocol="redis", cpr=("-c", "tcp:*"))
@setup("redis", protocol="redis", carries=False)
def redis(room):
    configuration = room.write("redis.conf", f"""
bind 127.0.0.1
port {room.port}
dir {room.dir}
daemonize no
save ""
appendonly no
""")
    return [program("redis-server"), configuration]


@setup("memcached-carry", protocol="memcached", cpr=("-c", "tcp:*"))
@setup("memcached", protocol="memcached", carries=False)
def memcached(room):
    user = ["-u", "root"] if ROOT else []
    return [program("memcached"), *user, "-l", "127.0.0.1", "-p", str(room.port), "-U", "0"]


def haproxy_command(room, more, *options):
    answer = room.write("answer", BODY.decode())
    configuration = room.write("haproxy.cfg", f"""
global
    maxconn 256
{more}
defaults
    mode http
    timeout client 60s
    timeout connect 5s
    timeout server 60s
frontend test
    bind 127.0.0.1:{room.port}
    http-request return status 200 content-type text/plain file {answer}
""")
    return [program("haproxy"), *options, "-f", configuration]


@setup("haproxy")
def haproxy(room):
    return haproxy_command(room, "", "-db")


def haproxy_sockets(room):
    """Asks the master's and the worker's control socket, each by its path. Returns a fault, or None."""
    for name, question, expected in (("master", b"show proc\n", b"master"), ("admin", b"show info\n", b"Pid: ")):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(room.path(name))
            client.sendall(question)
            client.shutdown(socket.SHUT_WR)
            if expected not in client.makefile("rb").read():
                return f"its socket {name!r} does not answer"
    return None


@setup("haproxy-master", workers_bind=True, beside=haproxy_sockets)
def haproxy_master(room):
    """As distributions start it. Its worker can start no thread (RLIMIT_NPROC) and sees no /proc (chroot).

    Its master execs itself. The master's socket is bound under a temporary name.
    """
    user = f"user haproxy\n    group haproxy\n    chroot {room.directory('empty')}" if ROOT else ""
    return haproxy_command(room, f"    {user}\n    stats socket {room.path('admin')} mode 660 level admin", "-Ws",
                           "-p", room.path("haproxy.pid"), "-S", room.path("master"))


def lighttpd_command(room, more=""):
    configuration = room.write("lighttpd.conf", f"""{more}
server.bind = "127.0.0.1"
server.port = {room.port}
server.document-root = "{documents(room)}"
server.upload-dirs = ( "{room.directory("tmp")}" )
server.pid-file = "{room.path("lighttpd.pid")}"
mimetype.assign = ( ".txt" => "text/plain" )
""")
    return [program("lighttpd"), "-D", "-f", configuration]


@setup("lighttpd")
def lighttpd(room):
    return lighttpd_command(room)


def lighttpd_workers(room):
    """The master ends its workers by a signal to the process group."""
    return lighttpd_command(room, "server.max-worker = 2")


@setup("python-http.server")
def python_http_server(room):
    return [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", documents(room),
            str(room.port)]


@setup("python-threading")
def python_threading(room):
    return python("http_threading.py", str(room.port))


@setup("prefork-reuseport", workers_bind=True)
def prefork_reuseport(room):
    return python("prefork.py", str(room.port), "reuseport")


@setup("prefork-closing")
def prefork_closing(room):
    return python("prefork.py", str(room.port), "closing")


@setup("prefork-threads")
def prefork_threads(room):
    return python("prefork.py", str(room.port), "threads")


@setup("prefork-spawning")
def prefork_spawning(room):
    return python("prefork.py", str(room.port), "spawning")


@setup("python-spawning")
def python_spawning(room):
    return python("spawning.py", "127.0.0.1", str(room.port))


@setup("node")
def node(room):
    return [program("node"), os.path.join(HERE, "http_node.js"), str(room.port)]


@setup("node-cluster")
def node_cluster(room):
    return [program("node"), os.path.join(HERE, "http_cluster.js"), str(room.port)]


@setup("python-handing")
def python_handing(room):
    return python("handing.py", "127.0.0.1", str(room.port))


@setup("java")
def java(room):
    source = os.path.join(HERE, "HttpJava.java")
    compile_into(room, [program("javac"), "-d", room.dir, source])
    return [program("java"), "-Dsun.net.httpserver.nodelay=true", "-cp", room.dir, "HttpJava", str(room.port)]


def apache_says_ended(output):
    line = r"All workers are busy or dying, will shutdown (\d+) keep-alive connections"
    return sum(map(int, re.findall(line, output)))


def apache_command(room, mpm, processes):
    """The number of processes is fixed, so that a test can count them."""
    user = "User www-data\nGroup www-data" if ROOT else ""
    configuration = room.write("apache.conf", f"""
ServerRoot {room.dir}
ServerName localhost
DefaultRuntimeDir {room.dir}
PidFile {room.path("apache.pid")}
ErrorLog /dev/stderr
LogLevel mpm_{mpm}:trace1
LoadModule mpm_{mpm}_module {APACHE_MODULES}/mod_mpm_{mpm}.so
LoadModule authz_core_module {APACHE_MODULES}/mod_authz_core.so
{user}
Listen 127.0.0.1:{room.port}
DocumentRoot {documents(room)}
KeepAlive On
KeepAliveTimeout 60
MaxKeepAliveRequests 0
{processes}
""")
    return [program("apache2"), "-f", configuration, "-DFOREGROUND"]


@setup("apache", says_ended=apache_says_ended)
def apache(room, threads=34):
    """Each process has more threads than there are clients: apache closes idle connections when all its threads are
    busy, with and without cpr. That still happens when apache has just started and has few threads, and when a busy
    machine lets all clients ask at once. It logs how many it closed (trace1); a test allows that many, and no more."""
    return apache_command(room, "event", f"""
ServerLimit 2
StartServers 2
ThreadsPerChild {threads}
MaxRequestWorkers {2 * threads}
MinSpareThreads 1
MaxSpareThreads {2 * threads}
""")


def apache_prefork(room, workers=64):
    """A process for each connection: all of them connect at once when they pass their connections on."""
    return apache_command(room, "prefork", f"""
ServerLimit {workers}
StartServers {workers}
MaxRequestWorkers {workers}
MinSpareServers 1
MaxSpareServers {workers}
""")


@setup("unix", unix=True)
def unix(room):
    return python("http_unix.py", room.socket_path)


@setup("selfexec-python", hangs_up=True, carries=False)
def selfexec_python(room):
    return python("selfexec.py", str(room.port))


@setup("selfexec-c", hangs_up=True, carries=False)
def selfexec_c(room):
    binary = room.path("selfexec")
    compile_into(room, [program("cc"), "-O2", "-o", binary, os.path.join(HERE, "selfexec.c")])
    return [binary, str(room.port)]


def compile_into(room, command):
    done = subprocess.run(command, cwd=room.dir, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise Failure("a compilation failed: " + done.stderr.strip()[-500:])
