/* SPDX-License-Identifier: MIT */
/* Heads of HTTP/1.1 messages, as most are. */
#include "model/http_head.h"

#include <string.h>

static bool begins(const char *line, size_t n, const char *with, size_t length)
{
	return n >= length && memcmp(line, with, length) == 0;
}
#define BEGINS(line, n, with) begins((line), (n), (with), sizeof(with) - 1)

static bool add_length(struct http_head *head, const char *digits, size_t n)
{
	uint64_t length = 0;

	if (head->framed || n < 3 || n > 2 + 18 || digits[n - 2] != '\r')
		return false;
	for (size_t i = 0; i < n - 2; i++) {
		unsigned digit = (unsigned char)digits[i] - '0';

		if (digit > 9)
			return false;
		length = length * 10 + digit;
	}
	head->framed = true;
	head->length = length;
	return true;
}

/* A line that begins with c: "Connection", "Content-Length", or nothing to us. */
static bool read_c(struct http_head *head, const char *line, size_t n)
{
	if (n < sizeof("connection:"))
		return true;
	if ((line[2] | 0x20) != 'n')
		return true;
	if ((line[3] | 0x20) == 'n' && n == 19) {
		head->last = true;
		return BEGINS(line, n, "Connection: close\r") || BEGINS(line, n, "connection: close\r");
	}
	if ((line[3] | 0x20) == 'n')
		return n == 24 &&
		       (BEGINS(line, n, "Connection: keep-alive\r") || BEGINS(line, n, "connection: keep-alive\r") ||
			BEGINS(line, n, "Connection: Keep-Alive\r"));
	if ((line[8] | 0x20) != 'l' || (line[9] | 0x20) != 'e')
		return true;
	if (!BEGINS(line, n, "Content-Length: ") && !BEGINS(line, n, "content-length: "))
		return false;
	return add_length(head, line + 16, n - 16);
}

/* The first letters of the lines that are looked at, by their lower six bits; some that come seldom have the same. */
#define BIT(c) (UINT64_C(1) << ((c) & 63))
static const uint64_t matters =
	BIT('\n') | BIT('\r') | BIT('\t') | BIT(' ') | BIT('c') | BIT('C') | BIT('t') | BIT('T') | BIT('p') | BIT('P');

/* The header lines from `line` to the empty one; head->size is right up to `line`, and then for all. */
static bool read_lines(struct http_head *head, const char *line, const char *end)
{
	const char *first = line, *newline;

	for (; end - line >= 2; line = newline + 1) {
		size_t n;

		if (line[0] == '\r') {
			head->size += line + 2 - first;
			return line[1] == '\n';
		}
		newline = memchr(line, '\n', end - line);
		if (!newline)
			return false;
		if (!(matters >> (line[0] & 63) & 1))
			continue;
		n = newline + 1 - line;
		switch (line[0]) {
		case '\n':
		case ' ': /* goes on with the line before */
		case '\t':
			return false;
		case 'c':
		case 'C':
			if (!read_c(head, line, n))
				return false;
			break;
		case 't': /* Transfer-Encoding */
		case 'T':
			if (n < 4 || (line[3] | 0x20) == 'n')
				return false;
			break;
		case 'p': /* Proxy-Connection: http_parser heeds it */
		case 'P':
			if (n < 6 || line[5] == '-')
				return false;
		}
	}
	return false;
}

bool http_head_of_request(struct http_head *head, const char *bytes, size_t n)
{
	const char *newline;

	*head = (struct http_head){0};
	if (!BEGINS(bytes, n, "GET /") && !BEGINS(bytes, n, "POST /") && !BEGINS(bytes, n, "PUT /") &&
	    !(head->only = BEGINS(bytes, n, "HEAD /")))
		return false;
	newline = memchr(bytes, '\n', n);
	if (!newline || newline - bytes < 15 || memcmp(newline - 10, " HTTP/1.1\r", 10) != 0)
		return false;
	head->size = newline + 1 - bytes;
	return read_lines(head, newline + 1, bytes + n);
}

bool http_head_of_response(struct http_head *head, const char *bytes, size_t n)
{
	const char *newline;

	*head = (struct http_head){0};
	if (!BEGINS(bytes, n, "HTTP/1.1 "))
		return false;
	newline = memchr(bytes, '\n', n);
	if (!newline || newline - bytes < 13 || newline[-1] != '\r' || (bytes[12] != ' ' && bytes[12] != '\r'))
		return false;
	for (int i = 9; i < 12; i++) {
		if (bytes[i] < '0' || bytes[i] > '9')
			return false;
		head->status = head->status * 10 + bytes[i] - '0';
	}
	head->size = newline + 1 - bytes;
	return head->status >= 200 && read_lines(head, newline + 1, bytes + n);
}
