/* SPDX-License-Identifier: MIT */
/* A server that execs argv[0] again on SIGHUP. All its descriptors are close-on-exec. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { most_fds = 1024, most_bytes = 1024 };

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 46\r\n\r\n"
                             "the answer that every server under test gives\n";

struct connection {
    size_t length;
    char bytes[most_bytes];
};

static struct connection connections[most_fds];
static volatile sig_atomic_t hung_up;

static void on_hangup(int number)
{
    (void)number;
    hung_up = 1;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void watch(int set, int fd)
{
    struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };
    if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll_ctl");
}

static int listen_on(int port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((unsigned short)port) };
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0)
        die("socket");
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        die("bind");
    if (listen(fd, 128) < 0)
        die("listen");
    return fd;
}

static void accept_all(int listener, int set)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        if (fd >= most_fds) {
            close(fd);
            continue;
        }
        connections[fd].length = 0;
        watch(set, fd);
    }
}

/* false: the connection has ended */
static bool serve(int fd)
{
    struct connection *c = &connections[fd];
    ssize_t n = read(fd, c->bytes + c->length, most_bytes - c->length);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n == 0)
        return false;
    c->length += (size_t)n;
    if (memmem(c->bytes, c->length, "\r\n\r\n", 4)) {
        c->length = 0;
        return write(fd, answer, sizeof answer - 1) == (ssize_t)(sizeof answer - 1);
    }
    return c->length < most_bytes;
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = on_hangup };
    sigset_t hangup, before;

    if (argc != 2) {
        fprintf(stderr, "usage: %s PORT\n", argv[0]);
        return 2;
    }
    sigemptyset(&hangup);
    sigaddset(&hangup, SIGHUP);
    sigprocmask(SIG_BLOCK, &hangup, &before); /* only epoll_pwait lets it in */
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN);

    int listener = listen_on(atoi(argv[1]));
    int set = epoll_create1(EPOLL_CLOEXEC);
    watch(set, listener);
    while (!hung_up) {
        struct epoll_event events[64];
        int n = epoll_pwait(set, events, 64, -1, &before);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                accept_all(listener, set);
            else if (!serve(fd))
                close(fd);
        }
    }
    sigprocmask(SIG_SETMASK, &before, NULL); /* exec keeps the mask */
    execv(argv[0], argv);
    die("execv");
}
