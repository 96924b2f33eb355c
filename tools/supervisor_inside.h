/* SPDX-License-Identifier: MIT */
/* What the supervisor's files share: its state, and the functions of each file. */
#ifndef CPR_SUPERVISOR_INSIDE_H
#define CPR_SUPERVISOR_INSIDE_H

#include "base/attr.h"
#include "base/io.h"
#include "batch.h"
#include "bound.h"
#include "figures.h"
#include "generation.h"
#include "model/rules.h"
#include "model/settings.h"
#include "own.h"
#include "saved.h"
#include "supervisor.h"

#include <sys/stat.h>

#define MS INT64_C(1000000)
#define SECOND (1000 * MS)

enum { REASON_SIZE = 1024, CALLERS_MAX = 32, REPORTERS_MAX = 32, KILL_AFTER_S = 5, CHANGED_MS = 500 };

/* A cprctl that rang. */
struct caller {
	int line;   /* its socket; -1: this place is free */
	bool asked; /* its request has arrived */
	bool waits; /* for the restart that is under way */
	bool waits_for_drain;
	int drains;    /* the number of the generation that it waits for, until that ends; 0: none */
	bool later;    /* its request is read when the supervisor waits for no generation */
	bool early;    /* its request is read when the server has started */
	bool reexecs;  /* it waits for the next image of the supervisor */
	int64_t until; /* the time limit of its request */
};

/*
 * A process of a generation that has connected to report. It sends the report right after connect(), but on a busy
 * machine that may take a second.
 */
struct reporter {
	int line; /* -1: this place is free */
	pid_t pid;
	int64_t until;
};

enum handover_phase {
	HANDOVER_NONE,
	HANDOVER_STARTING,
	HANDOVER_SETTLING, /* the next one is ready, but may still start threads */
	HANDOVER_CHECKING,
	HANDOVER_PASSING,
	HANDOVER_LEAVING,  /* --one-at-a-time: the old one must end first */
	HANDOVER_ARRIVING, /* --one-at-a-time: the next one starts without a gate */
	HANDOVER_CANARY,   /* both take clients, in turn */
};

/* The next generation takes a share of the clients. */
struct canary {
	int64_t until;
	bool by_time;    /* clients cannot be counted: `all` and `taken` are ns */
	int64_t all, taken; /* clients so far; the next generation's among them, without this turn */
	int64_t changed; /* when this turn began */
	int64_t turn_at; /* when this turn ends at the latest */
	bool open;       /* this turn is the next generation's */
	bool has_taken;  /* the next generation may have clients */
	bool reached;    /* the next generation has had its share of clients */
	bool widened;    /* it gets a larger share, since its health check goes on */
	uint32_t clients; /* the number that the last turn was to have */
	bool over;       /* the canary has ended: an open gate stays open */
	int64_t check_at;
};

/* The restart that is under way. */
struct handover {
	enum handover_phase phase;
	struct generation *next; /* the generation that is to serve */
	int64_t asked_at, until;
	int64_t gate_us, gate_at; /* how long no generation took work; when that began */
	int old;          /* the old generation's number, once the next one serves */
	uint32_t carried, cut; /* with --one-at-a-time: kept for the answer, since the old one ends before */
	bool unreachable; /* the old one does not answer */
	bool stuck; /* with --one-at-a-time: the old one neither ends nor serves again; warned of once */
	const char *path; /* --exec: the next generation's program; the handover owns the string */
	pid_t check;      /* the health check's child; 0: none runs */
	int check_output;
	int64_t check_at;  /* when the next health check begins; 0: none is due */
	int64_t settle_at, settle_until; /* when the next one's threads are looked at again; for the last time */
	int64_t polled_at; /* when to look for a lock that keeps the next one from saying READY=1 */
	bool waits_for_end; /* there is such a lock, and the old one must end first */
	int looks;         /* how many looks in a row must find its threads asleep */
	int rested;        /* how many in a row have found that */
	int64_t locked_at; /* since when it waits for a lock of another process; 0: it does not wait */
	int64_t locks_at;  /* when to look for such a lock again, while it starts */
	int64_t report_by; /* when the answer is sent at the latest, even if carrying has not begun */
	struct canary canary;
	char door[128], listener[128];
	char unhealthy[REASON_SIZE]; /* the last health check's output */
	char notes[REASON_SIZE];     /* "warning=" lines for the answer */
	struct text notes_text;
	char ready[PROTOCOL_ANSWER_MAX]; /* the next generation's report */
};

/* For --rollback seconds after a handover: the old generation is kept, and the new one's health is checked. */
struct watch {
	char listener[128]; /* the listener that the health check asks; empty: no check */
	int64_t at;         /* when the next check begins; 0: none is due */
	pid_t check;
	int output;
};

/* sd_notify(3). */
struct notify {
	int sock;            /* receives the messages of our generations */
	const char *manager; /* the address of our service manager; NULL: there is none */
	bool said_ready;     /* the manager has been told READY=1 */
	int64_t watchdog_at; /* when the manager is next told WATCHDOG=1; 0: it did not ask for that */
	bool spoken;         /* a generation has sent READY=1: the next one is not ready before it sends it, too */
};

/* A connection of the descriptor store, or of a generation that has ended. The server gets it when it is ready. */
struct carried {
	int fd;
	uint64_t value; /* as in its batch */
};

/* The manager's descriptor store. */
struct store {
	uint64_t *inodes; /* of the kept descriptors in it */
	size_t count;
	struct carried *carried;
	size_t carried_count;
	bool leaving; /* connections that generations pass go into the store */
	size_t idle_stored, idle_closed; /* of the connections at the end */
	bool said_small; /* that it takes too few */
};

/* The exec of the supervisor's own new version. */
struct reexec {
	pid_t probe; /* runs the new version, to find out whether it can take over; 0: none runs */
	int output;  /* the probe's output; -1: no reexec is under way */
	bool proven; /* the new version can take over */
	int64_t until;
	struct stat file; /* the program file that was tried */
};

/* A signal that arrived while the supervisor waited for a generation. */
struct noted_signal {
	int signo;
	bool by_kernel;
};

struct supervisor {
	struct supervisor_options options;
	struct recipe recipe;
	struct holdings holdings;
	struct rules rules;      /* for a program under a seccomp filter: what is kept */
	bool says_no_rights;
	struct lingering *lingering; /* connections of old generations without a gate */
	struct generation *generations; /* newest first */
	struct generation *serving;     /* NULL: none serves */
	struct handover handover;
	struct watch watch;
	struct notify notify;
	struct store store;
	struct reexec reexec;
	struct caller callers[CALLERS_MAX];
	struct reporter reporters[REPORTERS_MAX];
	int signals;        /* signalfd */
	int address;        /* the socket to which generations report */
	int files;          /* inotify (watch.h); -1: no file is watched */
	int64_t changed_at; /* when a restart begins that no caller asked for; 0: none is due */
	void *page;         /* a mapping by which the tools recognise a supervisor */
	int64_t started_at;
	bool proven; /* a generation has been ready */
	bool ending;
	struct noted_signal noted[16];
	size_t noted_count;
	bool told_to_end; /* one of `noted` ends the supervisor */
	int steady;       /* over 0: the present wait is not given up for such a signal */
	int status; /* of the server, when it has ended */
	int restarts;
	int64_t last_restart_us, last_gate_us;
	struct figures figures;
	int64_t refresh_at; /* when the serving generation is asked again for its holdings; 0: not due */
	int refreshes;
	int64_t start_again_at; /* after a crash; 0: not due */
	int crashes;
	int64_t first_crash_at;
	int64_t passed_at;    /* when the serving generation last got connections */
	struct batch pending; /* connections of a draining generation, until the serving one's line has room */
	bool has_pending;
};

/* lives.c */
bool lives_start(struct supervisor *s); /* the first generation, or the next one after a crash */
bool lives_adopt(struct supervisor *s); /* a server that runs already and has lost its supervisor */
void lives_adopted_ended(struct supervisor *s, struct generation *g);
void lives_add(struct supervisor *s, struct generation *g, int number);
void lives_remove(struct supervisor *s, struct generation *g);
int lives_stop_timeout(const struct supervisor *s); /* in seconds */
void lives_retire(struct supervisor *s, struct generation *g, int signo); /* sends signo, later SIGKILL */
void lives_end_all(struct supervisor *s, int signo);
void lives_tell_end(const struct generation *g, struct text *why); /* how the next generation ended */
void lives_reap(struct supervisor *s);
void lives_search(struct supervisor *s, struct generation *g, int64_t now);
size_t lives_draining(const struct supervisor *s, uint32_t *connections);
void supervisor_restart_unasked(struct supervisor *s); /* after the restart that is under way */
void supervisor_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* reports.c */
int reports_listen(struct supervisor *s);
void reports_accept(struct supervisor *s);
void reports_read(struct supervisor *s, struct reporter *r);
void reports_tick(struct supervisor *s, int64_t now);
int64_t reports_due(const struct supervisor *s);
void reports_refresh(struct supervisor *s); /* asks the serving generation for its holdings */
void reports_refresh_soon(struct supervisor *s, int64_t when);

void reports_ready(struct supervisor *s, struct generation *g, const char *said); /* its library reports it ready */
void reports_notified(struct supervisor *s, struct generation *g); /* it has sent READY=1 */
void reports_become_ready(struct supervisor *s, struct generation *g); /* it is ready */

/* notify.c */
int notify_open(struct supervisor *s);
void notify_resume(struct supervisor *s);
void notify_hear(struct supervisor *s);
void notify_ready(struct supervisor *s); /* the first generation serves: tells the manager, once */

void notify_more_time(const struct supervisor *s, int seconds); /* EXTEND_TIMEOUT_USEC, from now on */
void notify_tick(struct supervisor *s, int64_t now);           /* WATCHDOG=1, when it is due */
int64_t notify_due(const struct supervisor *s);
void notify_failed(struct supervisor *s, int error);           /* the supervisor cannot start */
void notify_end(const struct supervisor *s);                   /* tells the manager the server's status */
void notify_phase(struct supervisor *s, const char *word); /* READY, RELOADING or STOPPING, with a status */
void notify_send(const struct supervisor *s, const char *text, size_t n, int fd); /* fd -1: none */

/* fdstore.c */
void fdstore_take(struct supervisor *s);   /* takes what the last supervisor stored */
void fdstore_keep(struct supervisor *s);   /* stores the holdings, in case every process is killed */
bool fdstore_is_current(const struct supervisor *s); /* does the store have the present holdings? */
bool fdstore_leave(struct supervisor *s);  /* ends with everything stored; false: not possible, end as without */
void fdstore_carry(struct supervisor *s, struct batch *batch); /* stores these connections, and closes ours */
void fdstore_end(struct supervisor *s);
void fdstore_tick(struct supervisor *s);
void fdstore_add_carried(struct supervisor *s, int *fd, uint64_t value); /* takes *fd (then -1), or leaves it */

/* turn.c: --one-at-a-time */
int turn_begin(struct supervisor *s, struct text *why);
void turn_take(struct supervisor *s, struct batch *batch); /* connections for the next generation; takes them */
void turn_cut(struct supervisor *s, const struct generation *g); /* counts its remaining connections as cut */
bool turn_ready(struct supervisor *s);                     /* the next generation is ready: does it belong to a turn? */
void turn_ended(struct supervisor *s, const struct generation *g); /* it has ended, perhaps before it was ready */
void turn_tick(struct supervisor *s, int64_t now);
int64_t turn_due(const struct supervisor *s);

/* gateless.c: programs that cannot be preloaded */
int gateless_begin(struct supervisor *s);
void gateless_listens(struct supervisor *s, struct generation *g, struct bound *b);
void gateless_follow_attached(struct supervisor *s);
void gateless_linger(struct supervisor *s, const struct generation *old); /* its connections end by FIN from now on */
void gateless_dismiss(struct supervisor *s, struct generation *old); /* sends it its signal to end */
void gateless_tick(struct supervisor *s, int64_t now);
int64_t gateless_due(const struct supervisor *s);
void gateless_door(const struct supervisor *s, char *door, size_t size);

/* notices.c: the system calls of such a program */
void notices_take(struct supervisor *s, struct generation *g);
int notices_holds(const struct generation *g, uint64_t ino); /* has it the socket open? 1, 0; -errno: not known */
void notices_settle(struct supervisor *s); /* lets go of sockets that do not listen or are closed */

/* signals.c */
int signals_open(struct supervisor *s, sigset_t *before); /* *before: the old mask; may be NULL */
void signals_take(struct supervisor *s);
void signals_note(struct supervisor *s); /* for signals_take_noted */
bool signals_have_room(const struct supervisor *s);
void signals_take_noted(struct supervisor *s);

/* meanwhile.c */
void meanwhile_begin(struct supervisor *s);

/* handover.c */
bool handover_attach(struct supervisor *s); /* --attach: the first generation takes over from a running server */
int handover_begin(struct supervisor *s, const char *path, struct text *why);
void handover_go(struct supervisor *s);                      /* the next generation takes over */
bool handover_is_possible(const struct supervisor *s, struct text *why);
struct generation *handover_one_too_many(const struct supervisor *s);
void handover_ready(struct supervisor *s, const char *said); /* the next generation is ready */
void handover_settled(struct supervisor *s);                 /* ... and has started all its threads */
void handover_checked(struct supervisor *s, int status);     /* the health check has ended */
void handover_fail(struct supervisor *s, const char *why);   /* calls it off, and ends the next generation */
void handover_failed(struct supervisor *s, const char *why); /* tells the callers that it failed */
void handover_done(struct supervisor *s);                    /* tells the callers that the next generation serves */
int handover_start_next(struct supervisor *s, bool gated, struct text *why);
void handover_step_down(struct generation *old); /* it takes no new work from now on */
void handover_note(struct supervisor *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void handover_tick(struct supervisor *s, int64_t now);
int64_t handover_due(const struct supervisor *s);
void handover_passed(struct supervisor *s); /* the old generation has passed its idle connections */
bool handover_under_way(const struct supervisor *s);
void handover_drain(struct supervisor *s,
		    struct generation *old); /* no rollback to it from now on: it only serves its connections */

/* helpers.c */
uint32_t helpers_count(const struct supervisor *s, struct generation *g); /* programs that it exec'ed for clients */

/* stranded.c */
/* Finds processes that the next one exec'ed with a door, and tells them of it. False: not done, or called off. */
bool stranded_tell(struct supervisor *s);
void stranded_note(const struct supervisor *s, struct generation *g); /* adds those that hold a listener to `apart` */

/* locks.c */
bool locks_hinder(struct supervisor *s); /* the next one waits for a lock, or was called off for that */
void locks_tick(struct supervisor *s, int64_t now);
int64_t locks_due(const struct supervisor *s);
/* Has `waiter` a file open on which `holder` has an exclusive lock? If so, writes its path. */
bool locks_keep_out(pid_t waiter, pid_t holder, char *path, size_t size);

/* settle.c */
void settle_begin(struct supervisor *s);
void settle_on(struct supervisor *s); /* waits until processes that it exec'ed are idle, too */
void settle_tick(struct supervisor *s, int64_t now);
int64_t settle_due(const struct supervisor *s);

/* gates.c: `old` closes its gate, then `next` opens its own. Either may be NULL. -errno: nothing has changed */
int gates_swap(struct supervisor *s, struct generation *old, struct generation *next, int64_t *gate_us,
	       struct text *why);

void gates_ask_door(struct supervisor *s); /* asks for the next generation's door */

/* canary.c */
bool canary_is_wanted(const struct supervisor *s);
void canary_begin(struct supervisor *s);
bool canary_is_open(const struct supervisor *s); /* the next generation has its turn */
/* A turn has ended with so many clients (-1: not known). Returns how many the next turn is to have; 0: no limit. */
uint32_t canary_next_turn(struct supervisor *s, int64_t accepted);
void canary_turn_is_over(struct supervisor *s, const struct generation *g); /* it has had its clients */
void canary_checked(struct supervisor *s, int status);
bool canary_give_back(struct supervisor *s); /* ends it; true: the next one goes on with the clients that it has */
void canary_tick(struct supervisor *s, int64_t now);
int64_t canary_due(const struct supervisor *s);

/* reexec.c */
void reexec_note_path(void); /* before anything changes the working directory */
int reexec_begin(struct supervisor *s, struct text *why);
void reexec_probed(struct supervisor *s, int status);
void reexec_call_off(struct supervisor *s, const char *why);
void reexec_tick(struct supervisor *s, int64_t now);
int64_t reexec_due(const struct supervisor *s);

/* knowledge.c */
int knowledge_write(const struct supervisor *s, struct saver *saver, int memfds[2]);
int knowledge_read(struct supervisor *s, int state, bool dry, struct text *why);

/* journal.c */
void journal_restart(const struct supervisor *s, uint32_t carried, size_t draining); /* after a success */

/* rollback.c */
void rollback_watch(struct supervisor *s, const char *listener);
void rollback_give_up(struct supervisor *s); /* from now on there is no way back */
int rollback(struct supervisor *s, int64_t *gate_us, struct text *why);
bool rollback_after_end(struct supervisor *s); /* the serving one ended; true: the old one serves again */
void rollback_checked(struct supervisor *s, int status);
void rollback_tick(struct supervisor *s, int64_t now);

/* passing.c */
void passing_begin(struct supervisor *s, struct generation *from, struct generation *to);
void passing_call_off(struct generation *from); /* connections on their way are still taken */
void passing_accept(struct supervisor *s, struct generation *from);
void passing_take(struct supervisor *s, struct generation *from, int fd);
void passing_settled(struct supervisor *s, struct generation *from); /* ends it, if no connection is left */
void passing_tick(struct supervisor *s, struct generation *from, int64_t now);
void passing_flush(struct supervisor *s);

/* callers.c */
void callers_ring(struct supervisor *s, uint64_t nonce);
void callers_read(struct supervisor *s, struct caller *c);
short callers_events(const struct supervisor *s, struct caller *c); /* the poll() events of its line */
void callers_read_now(struct supervisor *s, struct caller *c);
void callers_read_later(struct supervisor *s);
void callers_tell(struct supervisor *s, const char *text, size_t n, bool last); /* all that wait for the restart */
void callers_drained(struct supervisor *s, int generation);
void callers_reexeced(struct supervisor *s, const char *failed); /* NULL: this is the next image */
void callers_tick(struct supervisor *s, int64_t now);
int64_t callers_due(const struct supervisor *s);

static inline void due(int64_t *earliest, int64_t at)
{
	if (at && (!*earliest || at < *earliest))
		*earliest = at;
}

#endif
