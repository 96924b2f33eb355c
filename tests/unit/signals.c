/* SPDX-License-Identifier: MIT */
/* What the runner was started with must not decide what tests see: nohup and `&` in scripts leave signals ignored. */
#include <criterion/criterion.h>
#include <signal.h>

__attribute__((constructor)) static void reset_signals(void)
{
	struct sigaction action;
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		if (!sigaction(sig, NULL, &action) && action.sa_handler == SIG_IGN)
			signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

Test(signals, are_neither_ignored_nor_blocked)
{
	struct sigaction action;
	sigset_t blocked;

	sigprocmask(SIG_SETMASK, NULL, &blocked);
	for (int sig = 1; sig < NSIG; sig++) {
		if (sigaction(sig, NULL, &action))
			continue;
		cr_assert_neq((void *)action.sa_handler, (void *)SIG_IGN, "signal %d", sig);
		cr_assert_not(sigismember(&blocked, sig), "signal %d", sig);
	}
}
