/* SPDX-License-Identifier: MIT */
/* settings: what CPR_* says, and the default for what it says wrong. */
#include "model/settings.h"

#include "../support/files.h"
#include "base/log.h"

#include <signal.h>

static char dir[4096];

static void enter(void)
{
	scratch_enter(dir);
	log_to(LOG_LEVEL_WARN, "log");
}

static void leave(void)
{
	scratch_leave(dir);
}

TestSuite(settings, .init = enter, .fini = leave);

#define READ(...)                                                                                                      \
	({                                                                                                             \
		struct settings made;                                                                                  \
		settings_read(&made, (char *const[]){__VA_ARGS__, NULL});                                              \
		made;                                                                                                  \
	})

Test(settings, have_the_documented_defaults)
{
	struct settings s = READ("PATH=/bin", "CPR_DRAINS=1", "CPR_DRAIN=");

	cr_assert(s.drain_s == 5 && s.grace_s == 30 && s.ready_timeout_s == 60);
	cr_assert(s.signal == SIGRTMAX - 5 && s.retire_signal == SIGTERM && s.restart_signal == 0);
	cr_assert(!s.test && !s.unlink && !s.pidfile && s.rules.count == 0);
}

Test(settings, are_read_without_any_environment)
{
	struct settings s;

	settings_read(&s, NULL);
	cr_assert_eq(s.drain_s, 5);
}

Test(settings, are_what_was_set)
{
	char tested[] = "CPR_TEST=nginx -t";
	struct settings s = READ("CPR_DRAIN=0", "CPR_GRACE=86400", "CPR_READY_TIMEOUT=1", "CPR_SIGNAL=50",
				 "CPR_RETIRE_SIGNAL=3", "CPR_RESTART_SIGNAL=1", tested, "CPR_UNLINK=/a\n/b",
				 "CPR_PIDFILE=/run/p", "CPR_RULES=keep a\ndrop b");

	cr_assert(s.drain_s == 0 && s.grace_s == 86400 && s.ready_timeout_s == 1);
	cr_assert(s.signal == 50 && s.retire_signal == 3 && s.restart_signal == 1);
	memset(tested, 0, sizeof(tested)); /* the program may clear its environment */
	cr_assert_str_eq(s.test, "nginx -t");
	cr_assert_str_eq(s.unlink, "/a\n/b");
	cr_assert_str_eq(s.pidfile, "/run/p");
	cr_assert_eq(s.rules.count, 2);
	cr_assert_str_eq(s.rules.rule[1].glob, "b");
}

Test(settings, fall_back_for_what_is_no_number_of_the_range_and_say_so)
{
	static char *const wrong[] = {"CPR_DRAIN=x", "CPR_DRAIN=-1", "CPR_DRAIN=5s", "CPR_DRAIN= 5", "CPR_DRAIN=86401",
				      "CPR_DRAIN=99999999999999999999999"};
	char said[4096];

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		unlink("log");
		cr_assert_eq(READ(wrong[i]).drain_s, 5, "%s", wrong[i]);
		file_text("log", said, sizeof(said));
		cr_assert_not_null(strstr(said, wrong[i]), "%s is not named in: %s", wrong[i], said);
	}
	cr_assert_eq(READ("CPR_READY_TIMEOUT=0").ready_timeout_s, 60);
	cr_assert_eq(READ("CPR_SIGNAL=15").signal, SIGRTMAX - 5);
	cr_assert_eq(READ("CPR_RETIRE_SIGNAL=0").retire_signal, SIGTERM);
	cr_assert_eq(READ("CPR_RESTART_SIGNAL=65").restart_signal, 0);
}

Test(settings, name_the_rule_that_is_none_and_keep_those_before_it)
{
	struct settings s = READ("CPR_RULES=keep a\nhold b\nkeep c");
	char said[4096];

	cr_assert_eq(s.rules.count, 1);
	file_text("log", said, sizeof(said));
	cr_assert_not_null(strstr(said, "hold b"));
}

Test(settings, set_level_and_file_of_the_log)
{
	char said[4096];

	READ("CPR_LOG=debug:there");
	log_debug("heard");
	file_text("there", said, sizeof(said));
	cr_assert_not_null(strstr(said, "heard"));
	READ("CPR_LOG=error:elsewhere");
	log_warn("not heard");
	cr_assert_neq(access("elsewhere", F_OK), 0);
	log_error("heard");
	cr_assert_eq(access("elsewhere", F_OK), 0);
}

Test(settings, find_a_variable_by_its_whole_name)
{
	char *const envp[] = {"CPR_LOGX=1", "CPR_LOG", "XCPR_LOG=2", "CPR_LOG=3", "CPR_LOG=4", NULL};

	cr_assert_str_eq(settings_env(envp, "CPR_LOG"), "3");
	cr_assert_null(settings_env(envp, "CPR_LO"));
	cr_assert_null(settings_env(NULL, "CPR_LOG"));
	cr_assert_null(settings_env((char *const[]){NULL}, "CPR_LOG"));
}

Test(settings, know_the_supervisor_and_the_gate_only_together)
{
	struct settings s = READ("CPR_SUPERVISOR=42:ff", "CPR_GATE=closed");

	cr_assert_eq(s.supervisor, 42);
	cr_assert_eq(s.supervisor_nonce, 255);
	cr_assert(s.gated);
	s = READ("CPR_GATE=closed");
	cr_assert_eq(s.supervisor, 0);
	cr_assert_not(s.gated);
	s = READ("CPR_SUPERVISOR=42", "CPR_GATE=closed");
	cr_assert_eq(s.supervisor, 0);
	cr_assert_not(s.gated);
	s = READ("CPR_SUPERVISOR=42:ff", "CPR_GATE=closed", "CPR_PID=1");
	cr_assert_eq(s.supervisor, 0);
	cr_assert_not(s.gated);
}
