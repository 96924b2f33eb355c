# SPDX-License-Identifier: MIT
"""More of Debian's units, for `run --survey`: a client for each, and a minimal configuration where the package's own
serves nothing."""
import socket
import subprocess

from clients import Dns, Http, Memcached, Once, Redis, Tls, http_at


def once(port, begins=b"", question=b""):
    family = socket.AF_INET if isinstance(port, int) else socket.AF_UNIX
    return type("Once", (Once,), {"port": port, "begins": begins, "question": question, "family": family})


def any_at(port, path="/", keeps=True):
    """An HTTP client that accepts any status."""
    return http_at(port, path, None, keeps)


def unpreloaded_at(port, path="/"):
    """For a server that cannot be preloaded: on SIGTERM it closes idle connections, even if a request is on its way."""
    return type("Unpreloaded", (any_at(port, path, False),), {"again": False})


def tls_at(port):
    return type("Tls", (Tls,), {"port": port})


def dns_at(port):
    return type("Dns", (Dns,), {"port": port})


FASTCGI_VALUES = b"\x01\x09\x00\x00\x00\x00\x00\x00"   # FCGI_GET_VALUES
POSTGRES_SSL = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
MQTT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"
JABBER = (b"<?xml version='1.0'?><stream:stream to='localhost' xmlns='jabber:client' version='1.0' "
          b"xmlns:stream='http://etherx.jabber.org/streams'>")
STUN = b"\x00\x01\x00\x00\x21\x12\xa4\x42" + b"123456789012"

CLIENTS = {
    "nginx": Http, "lighttpd": Http, "apache2": Http, "haproxy": Http, "redis-server": Redis, "memcached": Memcached,
    "caddy": unpreloaded_at(80), "squid": any_at(3128, keeps=False), "varnish": any_at(6081),
    "h2o": any_at(8080), "hitch": tls_at(8443), "stunnel@web": tls_at(8444), "stunnel4": tls_at(8444),
    "tinyproxy": any_at(8888, keeps=False), "privoxy": any_at(8118, keeps=False),
    "dnsmasq": Dns, "unbound": Dns, "named": Dns, "nsd": Dns, "knot": Dns,
    "mosquitto": once(1883, b"\x20\x02", MQTT), "ngircd": once(6667, b"", b"NICK a\r\nUSER a a a a\r\n"),
    "vsftpd": once(21, b"220"), "proftpd": once(21, b"220"), "ssh": once(22, b"SSH-2.0"),
    "dovecot": once(143, b"* OK"), "postfix@-": once(25, b"220"),
    "uwsgi": any_at(9090), "php8.2-fpm": once("/run/php/php8.2-fpm.sock", b"\x01\x0a", FASTCGI_VALUES),
    "prometheus": unpreloaded_at(9090, "/-/healthy"), "nats-server": once(4222, b"INFO"),
    "etcd": unpreloaded_at(2379, "/version"), "tomcat10": any_at(8080),
    "mariadb": once(3306), "postgresql@15-main": once(5432, b"", POSTGRES_SSL),
    "beanstalkd": once(11300, b"OK", b"stats\r\n"), "coturn": once(3478, b"\x01\x01", STUN), "cups": any_at(631),
    "rsync": once(873, b"@RSYNCD"), "prosody": once(5222, b"<?xml", JABBER),
    "transmission-daemon": any_at(9091), "radicale": any_at(5232), "trafficserver": any_at(8080),
    "icecast2": any_at(8000), "mini-httpd": any_at(80),
}

CERTIFICATE = "openssl req -x509 -newkey rsa:2048 -nodes -days 9 -subj /CN=localhost -keyout {0}/key -out {0}/cert"

FILES = {
    "etc/hitch/hitch.conf": 'frontend = "[127.0.0.1]:8443"\nbackend = "[127.0.0.1]:9"\npem-file = "/etc/cpr-tls/pem"\n'
                            'daemon = off\nuser = "_hitch"\ngroup = "_hitch"\n',
    "etc/stunnel/web.conf": "foreground = yes\n[web]\naccept = 127.0.0.1:8444\nconnect = 127.0.0.1:9\n"
                            "cert = /etc/cpr-tls/pem\n",
    "etc/h2o/h2o.conf": "listen: 8080\nhttp1-request-timeout: 60\nuser: www-data\n"
                        "hosts:\n  default:\n    paths:\n      /:\n"
                        "        file.dir: /var/www/html\n",
    "etc/dnsmasq.d/cpr.conf": "listen-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-dhcp-interface=lo\n",
    "etc/unbound/unbound.conf.d/cpr.conf": "server:\n    interface: 127.0.0.1\n    val-permissive-mode: yes\n",
    "etc/nsd/nsd.conf.d/cpr.conf": "server:\n    ip-address: 127.0.0.1\n",
    "etc/rsyncd.conf": "use chroot = no\n[www]\npath = /var/www/html\n",
    "etc/resolv.conf": "nameserver 127.0.0.1\n",
}


def installed(root):
    """The units of CLIENTS that the machine has."""
    places = ("lib/systemd/system", "etc/systemd/system", "run/systemd/generator.late")
    found = []
    for unit in CLIENTS:
        file = unit.split("@")[0] + ("@" if "@" in unit else "") + ".service"
        if any((root / place / file).exists() for place in places) or (root / "etc/init.d" / unit).exists():
            found.append(unit)
    return found


def furnish(root):
    """Writes the configurations for the installed packages."""
    for name, text in FILES.items():
        file = root / name
        if name == "etc/resolv.conf":
            file.unlink(missing_ok=True)
        if file.parent.is_dir():
            file.write_text(text)
    tls = root / "etc/cpr-tls"
    tls.mkdir(exist_ok=True)
    subprocess.run(CERTIFICATE.format(tls).split(), check=True, capture_output=True)
    (tls / "pem").write_text((tls / "key").read_text() + (tls / "cert").read_text())
    for file in tls.iterdir():
        file.chmod(0o644)
    for file, line in (("etc/default/rsync", "RSYNC_ENABLE=true\n"), ("etc/default/coturn", "TURNSERVER_ENABLED=1\n")):
        if (root / file).exists():
            (root / file).write_text(line)
