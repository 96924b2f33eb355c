/* SPDX-License-Identifier: MIT */
/* text: what snprintf would write, in a fixed buffer, always terminated. */
#include "base/text.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The same format through text_format and snprintf, each into a buffer of `size`. */
static __attribute__((format(printf, 2, 3))) void same_as_snprintf(size_t size, const char *format, ...)
{
	char ours[200], theirs[200];
	struct text t = text_on(ours, size);
	int saved_errno = errno, n;
	va_list args;

	va_start(args, format);
	n = vsnprintf(theirs, size, format, args);
	va_end(args);
	errno = saved_errno;
	va_start(args, format);
	text_vformat(&t, format, args);
	va_end(args);
	cr_assert_str_eq(ours, theirs);
	cr_assert_eq(t.used, strlen(theirs));
	cr_assert_eq(t.cut, (size_t)n >= size);
}

Test(text, begins_empty_and_terminated)
{
	char bytes[4] = "abc";
	struct text t = TEXT_ON(bytes);

	cr_assert_str_empty(bytes);
	cr_assert_eq(t.used, 0);
	cr_assert_not(t.cut);
}

Test(text, writes_every_conversion_as_snprintf_does)
{
	same_as_snprintf(100, "plain");
	same_as_snprintf(100, "%s and %s", "one", "");
	same_as_snprintf(100, "%d %d %d", INT_MIN, 0, INT_MAX);
	same_as_snprintf(100, "%u %x", UINT_MAX, UINT_MAX);
	same_as_snprintf(100, "%ld %lu %lx", LONG_MIN, ULONG_MAX, ULONG_MAX);
	same_as_snprintf(100, "%lld %llu %llx", LLONG_MIN, ULLONG_MAX, ULLONG_MAX);
	same_as_snprintf(100, "%zu %zd", SIZE_MAX, (ssize_t)-1);
	same_as_snprintf(100, "%c%c%%", 'o', 'k');
	same_as_snprintf(100, "100%% of %d%%", 7);
	same_as_snprintf(100, "%x", 0u);
}

Test(text, reads_arguments_of_mixed_width_in_order)
{
	same_as_snprintf(200, "%d %lld %s %u %zu %c %x %ld", -1, -1ll, "s", 1u, (size_t)1 << 40, 'c', 0xabcu, -1l);
}

Test(text, names_the_error_of_errno)
{
	errno = ENOENT;
	same_as_snprintf(100, "open: %m");
	errno = 0;
	same_as_snprintf(100, "%m");
}

Test(text, survives_an_error_that_has_no_name)
{
	char bytes[40];
	struct text t = TEXT_ON(bytes);

	errno = 99999;
	text_format(&t, "%m");
	cr_assert_str_eq(bytes, "unknown error");
}

Test(text, writes_a_null_string_as_null)
{
	char bytes[40];
	struct text t = TEXT_ON(bytes);
	const char *volatile nothing = NULL;

	text_format(&t, "[%s]", nothing);
	cr_assert_str_eq(bytes, "[(null)]");
}

Test(text, cuts_what_does_not_fit_and_remembers_it)
{
	same_as_snprintf(8, "%s", "1234567");
	same_as_snprintf(8, "%s", "12345678");
	same_as_snprintf(8, "%s-%d", "12345", 6789);
	same_as_snprintf(1, "%d", 5);
	same_as_snprintf(1, "%s", "");
}

Test(text, touches_nothing_behind_its_buffer)
{
	char bytes[16];
	struct text t;

	memset(bytes, '#', sizeof(bytes));
	t = text_on(bytes, 5);
	for (int i = 0; i < 10; i++)
		text_format(&t, "%d%s", i, "abcdefgh");
	cr_assert_eq(memcmp(bytes, "0abc\0###########", sizeof(bytes)), 0);
	cr_assert(t.cut);
}

Test(text, stays_cut_once_it_was_cut)
{
	char bytes[4];
	struct text t = TEXT_ON(bytes);

	text_add(&t, "abcd");
	text_add(&t, "");
	cr_assert(t.cut);
	cr_assert_str_eq(bytes, "abc");
}

Test(text, takes_bytes_with_zeroes_in_them)
{
	char bytes[8];
	struct text t = TEXT_ON(bytes);

	text_add_bytes(&t, "a\0b", 3);
	cr_assert_eq(t.used, 3);
	cr_assert_eq(memcmp(bytes, "a\0b", 4), 0);
}

Test(text, writes_numbers_at_both_ends_of_their_range)
{
	char bytes[80], expected[80];
	struct text t = TEXT_ON(bytes);

	text_add_int(&t, INT64_MIN);
	text_add(&t, " ");
	text_add_int(&t, INT64_MAX);
	text_add(&t, " ");
	text_add_hex(&t, UINT64_MAX);
	text_add(&t, " ");
	text_add_hex(&t, 0);
	snprintf(expected, sizeof(expected), "%" PRId64 " %" PRId64 " %" PRIx64 " 0", INT64_MIN, INT64_MAX, UINT64_MAX);
	cr_assert_str_eq(bytes, expected);
}

Test(text, ends_quietly_at_a_lone_percent_sign)
{
	char bytes[16];
	struct text t = TEXT_ON(bytes);
	const char *volatile odd = "50%";

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
	text_format(&t, odd);
#pragma GCC diagnostic pop
	cr_assert_str_eq(bytes, "50");
}
