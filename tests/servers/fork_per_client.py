# SPDX-License-Identifier: MIT
"""Handover mode: servers of which a process serves one client, and ends with that one."""

import os

from handover import hand_over_again_and_again, trial
from harness import program
from protocols import BODY
from setups import Setup, python

# One client on its standard input and output.
ON_STDIO = r"""#!/usr/bin/perl
my $body = '%s';
while (defined(my $line = <STDIN>)) {
    my $last = 0;
    while (defined $line && $line !~ /^\r?\n$/) {
        $last ||= $line =~ /^connection:\s*close/i;
        $line = <STDIN>;
    }
    syswrite STDOUT, "HTTP/1.1 200 OK\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
    exit if $last;
}
"""


def socat(room):
    script = room.write("one_client.pl", ON_STDIO % BODY.decode())
    os.chmod(script, 0o755)
    return [program("socat"), f"TCP-LISTEN:{room.port},bind=127.0.0.1,fork,reuseaddr,backlog=128", f"EXEC:{script}"]


def forking(room):
    return python("http_forking.py", str(room.port))


def add(name, prepare):
    @trial(f"handover-{name}")
    def run(options, result):
        hand_over_again_and_again(Setup(name, prepare, carries=False), options, result)


add("socat", socat)
add("python-forking", forking)
