/* SPDX-License-Identifier: MIT */
/* words: requests are checked, answers are read back as they were written. */
#include "model/protocol.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

static struct protocol_request request(enum protocol_verb verb, const char *path)
{
	struct protocol_request made = {.magic = PROTOCOL_MAGIC, .verb = verb};

	strncpy(made.path, path, sizeof(made.path) - 1);
	return made;
}

Test(words, accepts_every_verb_with_and_without_a_path)
{
	for (enum protocol_verb verb = PROTOCOL_STATUS; verb <= PROTOCOL_RETIRE; verb++) {
		struct protocol_request plain = request(verb, ""), with = request(verb, "/usr/sbin/nginx");

		cr_assert_eq(protocol_check(&plain, sizeof(plain)), 0);
		cr_assert_eq(protocol_check(&with, sizeof(with)), 0);
	}
}

Test(words, refuses_a_request_of_another_size)
{
	struct protocol_request r = request(PROTOCOL_STATUS, "");

	for (size_t size = 0; size < 64; size++)
		cr_assert_eq(protocol_check(&r, size), -EINVAL);
	cr_assert_eq(protocol_check(&r, sizeof(r) - 1), -EINVAL);
	cr_assert_eq(protocol_check(&r, sizeof(r) + 1), -EINVAL);
}

Test(words, refuses_wrong_magic_and_unknown_verbs)
{
	static const uint32_t verbs[] = {0, PROTOCOL_VERBS_END, UINT32_MAX};
	struct protocol_request r = request(PROTOCOL_STATUS, "");

	r.magic ^= 1;
	cr_assert_eq(protocol_check(&r, sizeof(r)), -EINVAL);
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		r = request(PROTOCOL_STATUS, "");
		r.verb = verbs[i];
		cr_assert_eq(protocol_check(&r, sizeof(r)), -EINVAL);
	}
}

Test(words, refuses_a_path_that_is_relative_or_does_not_end)
{
	struct protocol_request relative = request(PROTOCOL_RESTART, "nginx"), endless = request(PROTOCOL_RESTART, "");

	memset(endless.path, '/', sizeof(endless.path));
	cr_assert_eq(protocol_check(&relative, sizeof(relative)), -EINVAL);
	cr_assert_eq(protocol_check(&endless, sizeof(endless)), -EINVAL);
	endless.path[sizeof(endless.path) - 1] = '\0';
	cr_assert_eq(protocol_check(&endless, sizeof(endless)), 0);
}

Test(words, reads_back_what_was_put)
{
	char answer[PROTOCOL_ANSWER_MAX], value[64];
	struct text t = TEXT_ON(answer);
	int64_t number;

	protocol_put(&t, "result", "ready");
	protocol_put_int(&t, "generation", 3);
	protocol_put(&t, "reason", "two\nlines = one");
	protocol_put(&t, "empty", "");
	cr_assert_str_eq(answer, "result=ready\ngeneration=3\nreason=two lines = one\nempty=\n");
	cr_assert_eq(protocol_get(answer, "result", value, sizeof(value)), 0);
	cr_assert_str_eq(value, "ready");
	cr_assert_eq(protocol_get(answer, "reason", value, sizeof(value)), 0);
	cr_assert_str_eq(value, "two lines = one");
	cr_assert_eq(protocol_get(answer, "empty", value, sizeof(value)), 0);
	cr_assert_str_empty(value);
	cr_assert_eq(protocol_get_int(answer, "generation", &number), 0);
	cr_assert_eq(number, 3);
}

Test(words, finds_a_whole_key_only)
{
	char value[16] = "before";

	cr_assert_eq(protocol_get("ready=1\n", "read", value, sizeof(value)), -ENOENT);
	cr_assert_eq(protocol_get("ready=1\n", "eady", value, sizeof(value)), -ENOENT);
	cr_assert_eq(protocol_get("a=ready=1\n", "ready", value, sizeof(value)), -ENOENT);
	cr_assert_eq(protocol_get("ready\n", "ready", value, sizeof(value)), -ENOENT);
	cr_assert_eq(protocol_get("", "ready", value, sizeof(value)), -ENOENT);
	cr_assert_eq(protocol_get("\n\n", "ready", value, sizeof(value)), -ENOENT);
	cr_assert_str_eq(value, "before");
}

Test(words, takes_the_first_of_two_and_a_last_line_without_newline)
{
	char value[16];

	cr_assert_eq(protocol_get("a=1\na=2", "a", value, sizeof(value)), 0);
	cr_assert_str_eq(value, "1");
	cr_assert_eq(protocol_get("a=1\nb=last", "b", value, sizeof(value)), 0);
	cr_assert_str_eq(value, "last");
}

Test(words, cuts_a_value_to_the_room_it_gets)
{
	char value[8] = "#######";

	cr_assert_eq(protocol_get("a=abcdefgh\n", "a", value, 4), 0);
	cr_assert_eq(memcmp(value, "abc\0###", 8), 0);
	cr_assert_eq(protocol_get("a=abcdefgh\n", "a", value, 1), 0);
	cr_assert_str_empty(value);
}

Test(words, reads_numbers_of_both_signs)
{
	static const int64_t numbers[] = {
		0, 1, -1, 42, 1000000000000, -1000000000000, INT64_MAX / 10 - 1, -(INT64_MAX / 10 - 1)};
	char answer[64];

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		struct text t = TEXT_ON(answer);
		int64_t back;

		protocol_put_int(&t, "n", numbers[i]);
		cr_assert_eq(protocol_get_int(answer, "n", &back), 0, "%s", answer);
		cr_assert_eq(back, numbers[i]);
	}
}

Test(words, refuses_what_is_no_number_or_too_large_and_touches_nothing)
{
	static const char *const wrong[] = {"n=\n",
					    "n=x\n",
					    "n=1x\n",
					    "n= 1\n",
					    "n=1.5\n",
					    "n=+1\n",
					    "n=--1\n",
					    "m=1\n",
					    "n=9999999999999999999\n",
					    "n=123456789012345678901234567890\n"};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		int64_t number = 7;

		cr_assert_eq(protocol_get_int(wrong[i], "n", &number), -ENOENT, "%s", wrong[i]);
		cr_assert_eq(number, 7);
	}
}

Test(words, refuses_a_sign_without_digits)
{
	int64_t number = 7;

	cr_assert_eq(protocol_get_int("n=-\n", "n", &number), -ENOENT);
	cr_assert_eq(number, 7);
}

Test(words, reads_back_the_smallest_and_the_largest_number)
{
	static const int64_t ends[] = {INT64_MAX, INT64_MIN};
	char answer[64];

	for (int i = 0; i < 2; i++) {
		struct text t = TEXT_ON(answer);
		int64_t back = 0;

		protocol_put_int(&t, "n", ends[i]);
		cr_assert_eq(protocol_get_int(answer, "n", &back), 0, "%s", answer);
		cr_assert_eq(back, ends[i]);
	}
}

Test(words, addresses_of_two_nonces_differ_and_can_be_bound)
{
	static const uint64_t nonces[] = {0, 1, 0x10, UINT64_MAX};

	for (size_t i = 0; i < sizeof(nonces) / sizeof(nonces[0]); i++) {
		struct sockaddr_un addr, other;
		socklen_t len = protocol_address(nonces[i] ^ (uint64_t)getpid() << 20, &addr),
			  other_len = protocol_address(~nonces[i], &other);
		int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

		cr_assert_eq(addr.sun_family, AF_UNIX);
		cr_assert_eq(addr.sun_path[0], '\0');
		cr_assert_leq(len, sizeof(addr));
		cr_assert(len != other_len || memcmp(&addr, &other, len));
		cr_assert_eq(bind(sock, (struct sockaddr *)&addr, len), 0, "%m");
		close(sock);
	}
}

Test(words, takes_a_batch_only_with_as_many_descriptors_as_it_names)
{
	struct protocol_batch batch = {.magic = PROTOCOL_MAGIC, .kind = PROTOCOL_BATCH_CARRY, .count = 3};

	cr_assert(protocol_batch_is_sound(&batch, sizeof(batch), 3));
	cr_assert_not(protocol_batch_is_sound(&batch, sizeof(batch), 2));
	cr_assert_not(protocol_batch_is_sound(&batch, sizeof(batch) - 1, 3));
	batch.count = 0;
	cr_assert_not(protocol_batch_is_sound(&batch, sizeof(batch), 0));
	batch.kind = PROTOCOL_BATCH_LEFT;
	cr_assert(protocol_batch_is_sound(&batch, sizeof(batch), 0));
	cr_assert_not(protocol_batch_is_sound(&batch, sizeof(batch), 1));
	batch = (struct protocol_batch){
		.magic = PROTOCOL_MAGIC, .kind = PROTOCOL_BATCH_DESCRIPTORS, .count = PROTOCOL_BATCH_MAX + 1};
	cr_assert_not(protocol_batch_is_sound(&batch, sizeof(batch), PROTOCOL_BATCH_MAX + 1));
	batch.count = 1;
	batch.magic++;
	cr_assert_not(protocol_batch_is_sound(&batch, sizeof(batch), 1));
}

Test(words, parses_the_supervisors_address_and_nothing_else)
{
	static const char *const bad[] = {
		"",      "12",    "12:", ":1f", "12:1g", "0:1f", "-1:1f", "12:11112222333344445", "99999999999:1f",
		"12:1F", " 12:1f"};
	uint64_t nonce = 0;
	int pid = 0;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_not(protocol_parse_supervisor(bad[i], &pid, &nonce), "%s", bad[i]);
	cr_assert_eq(pid, 0);
	cr_assert(protocol_parse_supervisor("4242:7fffffffffffffff", &pid, &nonce));
	cr_assert_eq(pid, 4242);
	cr_assert_eq(nonce, INT64_MAX);
}
