# SPDX-License-Identifier: MIT
"""Handover mode for programs that cannot be preloaded: static ones, those in Go, those of another libc."""

import dataclasses
import os

import handover
from harness import HERE, Result, program
from setups import Setup, compile_into, documents

RESTARTS = 5            # of each trial that runs by default
TRIALS = {}
# Their packages are large or rare. And etcd, as it ends, resets connections that it accepted and has not read yet.
ONLY_WHEN_NAMED = ("nats-server", "go", "static-musl", "etcd")


def trial(name, **details):
    def register(prepare):
        setup = Setup(name, prepare, carries=False, **details)

        def run(options):
            few = options
            if name not in ONLY_WHEN_NAMED:
                few = dataclasses.replace(options, restarts=min(options.restarts, RESTARTS))
            result = Result(name)
            handover.guard(result, lambda: handover.hand_over_again_and_again(setup, few, result))
            result.expect("reset by peer" not in str(result.samples), "a client saw RST")
            return result
        TRIALS[name] = run
        return prepare
    return register


def static(room, compiler, *flags):
    binary = room.path("static")
    compile_into(room, [program(compiler), *flags, "-O2", "-o", binary, os.path.join(HERE, "static.c")])
    return [binary, str(room.port)]


@trial("static-c")
def static_c(room):
    return static(room, "cc", "-static")


@trial("static-musl")
def static_musl(room):
    return static(room, "musl-gcc")


@trial("caddy", ends_idle=True)
def caddy(room):
    configuration = room.write("Caddyfile", f"""
{{
	admin off
	auto_https off
	storage file_system {room.directory("storage")}
}}
http://:{room.port} {{
	bind 127.0.0.1
	root * {documents(room)}
	file_server
}}
""")
    return [program("caddy"), "run", "--adapter", "caddyfile", "--config", configuration]


@trial("nats-server", protocol="nats", ends_idle=True, cpr=("--graceful-signal", "USR2", "--generations", "30"))
def nats_server(room):
    configuration = room.write("nats.conf", f"""
listen: "127.0.0.1:{room.port}"
lame_duck_duration: "30s"
lame_duck_grace_period: "1s"
""")
    return [program("nats-server"), "-c", configuration]


@trial("etcd", protocol="etcd", ends_idle=True)
def etcd(room):
    clients, peers = f"http://127.0.0.1:{room.port}", f"http://127.0.0.1:{room.free_port()}"
    return [program("etcd"), "--data-dir", room.directory("data"), "--listen-client-urls", clients,
            "--advertise-client-urls", clients, "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers,
            "--initial-cluster", f"default={peers}"]


@trial("go", ends_idle=True)
def go(room):
    source = room.write("main.go", GO)
    compile_into(room, [program("env"), f"GOCACHE={room.directory('cache')}", f"HOME={room.dir}", "CGO_ENABLED=0",
                        program("go"), "build", "-o", room.path("server"), source])
    return [room.path("server"), f"127.0.0.1:{room.port}"]


GO = """
package main

import ("context"; "net/http"; "os"; "os/signal"; "syscall")

func main() {
	answer := func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("the answer that every server under test gives\\n"))
	}
	server := &http.Server{Addr: os.Args[1], Handler: http.HandlerFunc(answer)}
	done, told := make(chan bool), make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	go func() { <-told; server.Shutdown(context.Background()); close(done) }()
	if err := server.ListenAndServe(); err != http.ErrServerClosed { panic(err) }
	<-done
}
"""
