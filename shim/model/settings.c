/* SPDX-License-Identifier: MIT */
/* Reads CPR_* once, at the start. */
#define _GNU_SOURCE
#include "model/settings.h"

#include "base/log.h"
#include "base/pool.h"
#include "model/protocol.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

cpr_startup const char *settings_env(char *const envp[], const char *name)
{
	size_t n = strlen(name);

	for (; envp && *envp; envp++)
		if (!strncmp(*envp, name, n) && (*envp)[n] == '=')
			return *envp + n + 1;
	return NULL;
}

void settings_env_remove(char **envp, const char *name)
{
	size_t n = strlen(name);
	char **to = envp;

	for (; envp && *envp; envp++)
		if (strncmp(*envp, name, n) || (*envp)[n] != '=')
			*to++ = *envp;
	if (to)
		*to = NULL;
}

static char *settings_copy(const char *string)
{
	size_t n = strlen(string) + 1;
	char *room = pool_alloc(n);

	return room ? memcpy(room, string, n) : NULL;
}

static char *copied(char *const envp[], const char *name)
{
	const char *value = settings_env(envp, name);

	return value && *value ? settings_copy(value) : NULL;
}

cpr_startup int settings_number(char *const envp[], const char *name, int least, int most, int fallback)
{
	const char *value = settings_env(envp, name);
	long sum = 0;

	if (!value || !*value)
		return fallback;
	for (const char *at = value; *at; at++) {
		if (*at < '0' || *at > '9' || sum > most) {
			sum = (long)most + 1;
			break;
		}
		sum = sum * 10 + (*at - '0');
	}
	if (sum < least || sum > most) {
		log_warn("%s=%s is not a number from %d to %d; %d it is", name, value, least, most, fallback);
		return fallback;
	}
	return (int)sum;
}

static void read_log(char *const envp[])
{
	char *value = copied(envp, SETTINGS_LOG), *path = value ? strchr(value, ':') : NULL;
	enum log_level level = LOG_LEVEL_WARN;

	if (!value)
		return;
	if (path)
		*path++ = '\0';
	if (*value && log_level_parse(value, &level))
		log_warn("%s: %s is none of error, warn, info, debug", SETTINGS_LOG, value);
	log_to(level, path && *path ? path : NULL);
}

/*
 * Are the settings meant for this process? A CGI script or a shell that the server runs inherits its environment. But
 * the pid file, the files to remove at a restart and the restart signal are for one program. That one keeps its pid
 * over its own execs. A daemon has another pid, but the memory of that program, and its next generations have a state.
 */
static bool is_meant(char *const envp[])
{
	return settings_env(envp, SETTINGS_STATE_FD) ||
	       settings_number(envp, SETTINGS_PID, 1, INT32_MAX, getpid()) == getpid();
}

int settings_doorbell(char *const envp[])
{
	return settings_number(envp, SETTINGS_SIGNAL, SIGRTMIN, SIGRTMAX, SIGRTMAX - PROTOCOL_SIGNAL_DEFAULT_BELOW_MAX);
}

static bool read_io_uring(char *const envp[])
{
	const char *word = settings_env(envp, SETTINGS_IO_URING);

	if (word && *word && strcmp(word, "allow") && strcmp(word, "deny"))
		log_warn("%s=%s is neither allow nor deny; deny it is", SETTINGS_IO_URING, word);
	return word && !strcmp(word, "allow");
}

static void read_supervisor(struct settings *settings, char *const envp[])
{
	const char *word = settings_env(envp, SETTINGS_SUPERVISOR), *gate = settings_env(envp, SETTINGS_GATE);

	if (!word || !*word)
		return;
	if (!protocol_parse_supervisor(word, &settings->supervisor, &settings->supervisor_nonce))
		log_warn("%s=%s is not PID:NONCE; it counts as exec mode", SETTINGS_SUPERVISOR, word);
	else
		settings->gated = gate && !strcmp(gate, "closed");
	settings->comes_back = settings->supervisor && settings_env(envp, SETTINGS_ROLLBACK);
}

void settings_read(struct settings *settings, char *const envp[])
{
	char *rules = copied(envp, SETTINGS_RULES);
	const char *bad;

	read_log(envp);
	*settings = (struct settings){
		.drain_s = settings_number(envp, SETTINGS_DRAIN, 0, 86400, 5),
		.grace_s = settings_number(envp, SETTINGS_GRACE, 0, 86400, 30),
		.ready_timeout_s = settings_number(envp, SETTINGS_READY_TIMEOUT, 1, 86400, 60),
		.io_uring = read_io_uring(envp),
		.signal = settings_doorbell(envp),
		.retire_signal = settings_number(envp, SETTINGS_RETIRE_SIGNAL, 1, SIGRTMAX, SIGTERM),
		.restart_signal = settings_number(envp, SETTINGS_RESTART_SIGNAL, 0, SIGRTMAX, 0),
		.replace_signal = settings_number(envp, SETTINGS_REPLACE_SIGNAL, 0, SIGRTMAX, 0),
		.test = copied(envp, SETTINGS_TEST),
		.unlink = copied(envp, SETTINGS_UNLINK),
		.pidfile = copied(envp, SETTINGS_PIDFILE),
	};
	read_supervisor(settings, envp);
	if (!is_meant(envp)) {
		settings->restart_signal = settings->replace_signal = settings->supervisor = 0;
		settings->supervisor_nonce = 0;
		settings->gated = false;
		settings->test = settings->unlink = settings->pidfile = NULL;
	}
	if (rules && rules_parse(&settings->rules, rules, &bad))
		log_warn("%s: %s is no rule, it and what follows do not count", SETTINGS_RULES, bad);
}
