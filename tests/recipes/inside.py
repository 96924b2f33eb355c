# SPDX-License-Identifier: MIT
"""Runs in the copy of the machine: inside.py NAME COMMAND. What a reader of the README has is there, the rest is the
README's own command. tests/recipes/run judges."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import types

from harness import Failure, Load, Server, await_until
from protocols import BODY, PATH

RESTARTS, FRESH = 3, 50
DIRECTORY = pathlib.Path("/srv/app")
TEXT = BODY.decode()
recipes = {}


def recipe(name, port=8000, protocol="http"):
    def register(prepare):
        recipes[name] = types.SimpleNamespace(prepare=prepare, port=port, protocol=protocol)
        return prepare
    return register


def write(path, text):
    path = DIRECTORY / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@recipe("nginx", port=80)
@recipe("container", port=80)
def nginx():
    """The package's own configuration."""
    write(f"/var/www/html{PATH}", TEXT)


@recipe("haproxy")
def haproxy():
    write("/etc/haproxy/haproxy.cfg", f"""
global
    user haproxy
    group haproxy
defaults
    mode http
    timeout client 30s
    timeout server 30s
    timeout connect 5s
frontend web
    bind 127.0.0.1:8000
    http-request return status 200 content-type text/plain string "{TEXT.strip()}\\n"
""")


@recipe("gunicorn")
def gunicorn():
    write("app.py", f"""
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "{len(BODY)}")])
    return [{BODY!r}]
""")


@recipe("uvicorn")
def uvicorn():
    write("app.py", f"""
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"{len(BODY)}")]}})
        await send({{"type": "http.response.body", "body": {BODY!r}}})
""")


@recipe("node")
def node():
    write("server.js", f"""
const body = {json.dumps(TEXT)};
require('http').createServer((request, response) => response.end(body)).listen(8000);
""")


@recipe("node-cluster")
def node_cluster():
    node()
    write("cluster.js", """
const cluster = require('cluster');
if (cluster.isPrimary) for (let i = 0; i < 2; i++) cluster.fork();
else require('./server.js');
""")


@recipe("redis", port=6379, protocol="redis")
def redis():
    """The package's own configuration."""


@recipe("java")
def java():
    shutil.copy2(pathlib.Path(__file__).with_name("HttpJava.java"), DIRECTORY)
    write("manifest", "Main-Class: App\n")
    write("App.java", 'public class App { public static void main(String[] a) throws Exception '
                      '{ HttpJava.main(new String[] {"8000"}); } }\n')
    subprocess.run(["javac", "App.java", "HttpJava.java"], cwd=DIRECTORY, check=True)
    classes = [path.name for path in DIRECTORY.glob("*.class")]
    subprocess.run(["jar", "cfm", "app.jar", "manifest", *classes], cwd=DIRECTORY, check=True)


@recipe("php-fpm")
def php_fpm():
    """Behind nginx, as it is used."""
    write("/srv/www/index.php", f"<?php header('Content-Length: {len(BODY)}'); echo {json.dumps(TEXT)};")
    version = sorted(pathlib.Path("/etc/php").iterdir())[-1].name
    write("nginx.conf", f"""
user www-data;
error_log /dev/null;
events {{ }}
http {{
    server {{
        listen 127.0.0.1:8000;
        location / {{
            include /etc/nginx/fastcgi_params;
            fastcgi_param SCRIPT_FILENAME /srv/www/index.php;
            fastcgi_pass unix:/run/php/php{version}-fpm.sock;
        }}
    }}
}}
""")
    os.makedirs("/run/php", exist_ok=True)
    subprocess.run(["nginx", "-c", str(DIRECTORY / "nginx.conf"), "-g", "pid /run/front.pid;"], check=True)


# ---- the kitchen ----

class Room:
    """What a server and its load must know of it."""
    socket_path, host, dir = None, "127.0.0.1", str(DIRECTORY)

    def __init__(self, port):
        self.port = port

    def path(self, name):
        return str(DIRECTORY / name)


def words(name, command):
    """As a shell has them; of a container's entry point, as the container's first process."""
    if name != "container":
        return ["/bin/sh", "-c", f"exec {command}"]
    return ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *json.loads(command.split(" ", 1)[1])]


def cprctl(server, name, *arguments):
    """In a container it is called as `docker exec` does."""
    where, pid = [], server.pid
    if name == "container":
        task = pathlib.Path(f"/proc/{server.pid}/task/{server.pid}/children")
        where, pid = ["nsenter", "-t", task.read_text().strip(), "--pid", "--mount", "--root"], 1
    done = subprocess.run([*where, "cprctl", *arguments, str(pid), "--json"], capture_output=True, text=True,
                          check=False)
    return json.loads(done.stdout) if done.returncode == 0 else done.stderr.strip()


def is_up(server, name):
    server.require_running()
    said = cprctl(server, name, "status")
    return isinstance(said, dict) and not said.get("arriving", True) and said["descriptors"] > 0


def cook(name, command):
    one = recipes[name]
    one.prepare()
    server = Server(words(name, command), Room(one.port), types.SimpleNamespace(cpr_exec=None))
    try:
        server.await_ready()
        if not await_until(lambda: is_up(server, name), 20):
            raise Failure(f"it is not up: {cprctl(server, name, 'status')}")
        load = Load(one.protocol, Room(one.port))
        for _ in range(RESTARTS):
            if not load.progress(FRESH, FRESH):
                raise Failure("requests are not answered")
            said = cprctl(server, name, "restart")
            if not isinstance(said, dict):
                raise Failure(said)
        if not load.progress(FRESH, FRESH):
            raise Failure("requests are not answered after the last restart")
        return load.pause()
    except Failure as failure:
        raise Failure(f"{failure}\n{server.tail()}") from None


def main(name, command):
    if name not in recipes:
        raise Failure("no test knows this recipe")
    subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    counters = cook(name, command)
    losses = ("refused", "timed_out", "cut", "stalled", "resets", "wrong", "idle_closed")
    lost = {what: counters[what] for what in losses if counters[what]}
    print(f"{RESTARTS} restarts, {counters['ok']} requests, lost: {lost or 'nothing'}")
    if lost:
        print(counters["samples"], file=sys.stderr)
    return 1 if lost else 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except Failure as failure:
        print(f"failed: {failure}")
        sys.exit(1)
