/* SPDX-License-Identifier: MIT */
/* What the doorbell's two ends say to each other. */
#define _GNU_SOURCE
#include "model/protocol.h"

#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>

socklen_t protocol_address(uint64_t nonce, struct sockaddr_un *addr)
{
	char name[sizeof(addr->sun_path) - 1];
	struct text t = TEXT_ON(name);

	text_add(&t, "cpr.");
	text_add_hex(&t, nonce);
	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(addr->sun_path + 1, name, t.used);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + t.used);
}

uint64_t protocol_key(const struct sockaddr *addr, socklen_t len)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */

	if (addr->sa_family == AF_INET || addr->sa_family == AF_INET6)
		return ntohs(((const struct sockaddr_in *)addr)->sin_port); /* in both families it stands there */
	if (addr->sa_family != AF_UNIX || len <= offsetof(struct sockaddr_un, sun_path))
		return 0; /* a socketpair, or a socket that has connected */
	for (size_t i = offsetof(struct sockaddr_un, sun_path); i < len; i++)
		hash = (hash ^ ((const unsigned char *)addr)[i]) * UINT64_C(0x100000001b3);
	return hash | UINT64_C(1) << 63;
}

int protocol_check(const struct protocol_request *request, size_t size)
{
	if (size != sizeof(*request) || request->magic != PROTOCOL_MAGIC)
		return -EINVAL;
	if (request->verb == PROTOCOL_DRAIN || request->verb == PROTOCOL_PASS || request->verb == PROTOCOL_TAKE)
		return request->drain.key_count > PROTOCOL_KEYS_MAX ? -EINVAL : 0;
	if (request->verb >= PROTOCOL_JOIN && request->verb < PROTOCOL_VERBS_END && request->verb != PROTOCOL_FORESEE)
		return 0;
	if (request->verb != PROTOCOL_FORESEE &&
	    (request->verb < PROTOCOL_STATUS || request->verb > PROTOCOL_RETIRE))
		return -EINVAL;
	if (!memchr(request->path, '\0', sizeof(request->path)))
		return -EINVAL;
	return request->path[0] && request->path[0] != '/' ? -EINVAL : 0;
}

bool protocol_batch_is_sound(const struct protocol_batch *batch, size_t size, size_t descriptors)
{
	if (size != sizeof(*batch) || batch->magic != PROTOCOL_MAGIC || batch->count > PROTOCOL_BATCH_MAX)
		return false;
	if (batch->kind == PROTOCOL_BATCH_LEFT)
		return !batch->count && !descriptors;
	return (batch->kind == PROTOCOL_BATCH_DESCRIPTORS || batch->kind == PROTOCOL_BATCH_CARRY) && batch->count &&
	       batch->count == descriptors;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool protocol_parse_supervisor(const char *word, int *pid, uint64_t *nonce)
{
	uint64_t number = 0;
	long sum = 0;
	int digits = 0;

	for (; *word >= '0' && *word <= '9' && sum < 100000000; word++)
		sum = sum * 10 + (*word - '0');
	if (sum <= 0 || sum > INT32_MAX || *word++ != ':')
		return false;
	for (; hex_digit(*word) >= 0 && digits < 16; word++, digits++)
		number = number << 4 | (uint64_t)hex_digit(*word);
	if (!digits || *word)
		return false;
	*pid = (int)sum;
	*nonce = number;
	return true;
}

void protocol_put(struct text *t, const char *key, const char *value)
{
	text_add(t, key);
	text_add(t, "=");
	for (; *value; value++)
		text_add_bytes(t, *value == '\n' ? " " : value, 1);
	text_add(t, "\n");
}

void protocol_put_int(struct text *t, const char *key, int64_t value)
{
	text_add(t, key);
	text_add(t, "=");
	text_add_int(t, value);
	text_add(t, "\n");
}

int protocol_get(const char *answer, const char *key, char *value, size_t size)
{
	size_t len = strlen(key);

	for (const char *line = answer; *line;) {
		size_t n = strcspn(line, "\n");

		if (n > len && line[len] == '=' && !memcmp(line, key, len)) {
			n -= len + 1;
			if (n > size - 1)
				n = size - 1;
			memcpy(value, line + len + 1, n);
			value[n] = '\0';
			return 0;
		}
		line += n + (line[n] == '\n');
	}
	return -ENOENT;
}

int protocol_get_int(const char *answer, const char *key, int64_t *value)
{
	char digits[24];
	const char *at = digits;
	int64_t sum = 0; /* below zero: there is one more there */

	if (protocol_get(answer, key, digits, sizeof(digits)))
		return -ENOENT;
	at += *digits == '-';
	do {
		if (*at < '0' || *at > '9' || __builtin_mul_overflow(sum, 10, &sum) ||
		    __builtin_sub_overflow(sum, *at - '0', &sum))
			return -ENOENT;
	} while (*++at);
	if (*digits != '-' && __builtin_mul_overflow(sum, -1, &sum))
		return -ENOENT;
	*value = sum;
	return 0;
}
