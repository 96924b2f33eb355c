/* SPDX-License-Identifier: MIT */
/*
 * How the unit tests want the sanitizers, when they are built with them. What is undefined fails a test; what a test
 * does not free does not.
 */

const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void)
{
	return "halt_on_error=1:print_stacktrace=1";
}

const char *__lsan_default_options(void);
const char *__lsan_default_options(void)
{
	return "detect_leaks=0"; /* every test is a process of its own, and leaves its memory to its end */
}
