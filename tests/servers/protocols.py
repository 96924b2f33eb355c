# SPDX-License-Identifier: MIT
"""The load's requests to a server, and the check of each answer."""

BODY = b"the answer that every server under test gives\n"
PATH = "/answer.txt"

PENDING, GOOD, LAST, WRONG = "pending", "good", "last", "wrong"


def http(_number):
    """One GET. The verdict is LAST if the server announces that it closes the connection, as HTTP/1.0 does."""
    request = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    return request, judge_http


def etcd(_number):
    """A request that needs no leader: a member that has just started has none until the next election."""
    request = b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"
    return request, lambda received: judge_http(received, lambda body: body.startswith(b'{"etcdserver":'))


def judge_http(received, is_right=BODY.__eq__):
    head, end_of_head, body = received.partition(b"\r\n\r\n")
    if not end_of_head:
        return PENDING
    status, *lines = head.lower().split(b"\r\n")
    fields = dict(line.split(b":", 1) for line in lines if b":" in line)
    length = fields.get(b"content-length", b"").strip()
    if length.isdigit() and len(body) < int(length):
        return PENDING
    if b" 200" not in status or not is_right(body):
        return WRONG
    connection = fields.get(b"connection", b"").strip()
    if connection == b"close" or (status.startswith(b"http/1.0") and connection != b"keep-alive"):
        return LAST
    return GOOD


def one_of(*answers):
    """A judge for protocols with a fixed set of answers."""
    def judge(received):
        if received in answers:
            return GOOD
        return PENDING if any(answer.startswith(received) for answer in answers) else WRONG
    return judge


def redis(number):
    """An inline PING with a word of its own, so that an answer to another request is noticed."""
    word = b"word-%d" % number
    return b"PING %s\r\n" % word, one_of(b"$%d\r\n%s\r\n" % (len(word), word))


def memcached(number):
    """set and get in turns; a get may miss, since a restart empties the cache."""
    key, value = b"key-%d" % (number // 2 % 8), b"value"
    if number % 2 == 0:
        return b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value), one_of(b"STORED\r\n")
    hit = b"VALUE %s 0 %d\r\n%s\r\nEND\r\n" % (key, len(value), value)
    return b"get %s\r\n" % key, one_of(hit, b"END\r\n")


def nats(_number):
    """The first answer of a connection has a greeting before it."""
    return b"PING\r\n", lambda received: GOOD if received.endswith(b"PONG\r\n") else PENDING


BY_NAME = {"http": http, "etcd": etcd, "nats": nats, "redis": redis, "memcached": memcached}
