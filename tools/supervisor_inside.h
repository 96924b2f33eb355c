/* SPDX-License-Identifier: MIT */
/* What the supervisor's files share: its state, and which file does what in it. */
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
	int line;   /* -1: this place is free */
	bool asked; /* its request has come */
	bool waits; /* for the restart that is under way */
	bool waits_for_drain;
	int drains;    /* the number of the generation whose end it waits for; 0: none */
	bool later;    /* it has said something that is heard when no generation is waited for */
	bool early;    /* its request is heard when the server has started */
	bool reexecs;  /* it waits for the next image of the supervisor */
	int64_t until; /* its request must come before */
};

/*
 * A process of a generation that has connected to report. Its next instruction sends the report, but on a busy machine
 * that may be a second away.
 */
struct reporter {
	int line; /* -1: this place is free */
	pid_t pid;
	int64_t until;
};

enum handover_phase {
	HANDOVER_NONE,
	HANDOVER_STARTING,
	HANDOVER_SETTLING, /* the next one is ready, and may be starting threads still */
	HANDOVER_CHECKING,
	HANDOVER_PASSING,
	HANDOVER_LEAVING,  /* --one-at-a-time: the old one is to end first */
	HANDOVER_ARRIVING, /* ... and the next one serves from its start */
	HANDOVER_CANARY,   /* both take clients, by turns */
};

/* The next generation takes a share of the clients. */
struct canary {
	int64_t until;
	bool by_time;    /* clients cannot be counted: what is below is ns */
	int64_t all, taken; /* clients so far; of them the next one's, without this turn */
	int64_t changed; /* when this turn began */
	int64_t turn_at; /* … and when it is over, at the latest */
	bool open;       /* it has it now */
	bool has_taken;  /* it may have clients */
	bool reached;    /* it has had all of its clients */
	bool widened;    /* it is given more, for the check that goes on */
	uint32_t clients; /* of the last turn, as asked for */
	bool over;       /* what opens its gate now keeps it open */
	int64_t check_at;
};

/* The restart that is under way. */
struct handover {
	enum handover_phase phase;
	struct generation *next; /* the one that is to serve */
	int64_t asked_at, until;
	int64_t gate_us, gate_at; /* how long no generation took work; when that began */
	int old;          /* the number of the one before, once the next one serves */
	uint32_t carried, cut; /* with --one-at-a-time: the old one is gone when that is said */
	bool unreachable; /* the old one does not answer */
	bool stuck; /* with --one-at-a-time: the old one neither ends nor serves again; said once */
	const char *path; /* --exec: the program of this one; the handover's own memory */
	pid_t check;      /* the health check's child; 0: none runs */
	int check_output;
	int64_t check_at;  /* when the next one begins; 0: not due */
	int64_t settle_at, settle_until; /* when it is looked at next, and for the last time */
	int64_t polled_at; /* it is looked for a lock then that keeps the next one from saying READY=1 */
	bool waits_for_end; /* … and there is one: the old one is told to leave before */
	int looks;         /* that must find so, one behind the other */
	int rested;        /* looks that have found all its threads asleep, one behind the other */
	int64_t locked_at; /* since when it waits for a lock that it does not hold itself; 0: it does not */
	int64_t locks_at;  /* when that is looked at next, while it starts */
	int64_t report_by; /* the answer goes out then at the latest, whether carrying has begun or not */
	struct canary canary;
	char door[128], listener[128];
	char unhealthy[REASON_SIZE]; /* what the last check said */
	char notes[REASON_SIZE];     /* "warning=" lines for the answer */
	struct text notes_text;
	char ready[PROTOCOL_ANSWER_MAX]; /* what the next generation said of itself */
};

/* For --rollback seconds after a handover: the old one is kept, and the new one looked at. */
struct watch {
	char listener[128]; /* which the health check asks; empty: there is none */
	int64_t at;         /* when it is asked next; 0: not */
	pid_t check;
	int output;
};

/* sd_notify(3). */
struct notify {
	int sock;            /* where generations say it */
	const char *manager; /* the address of ours; NULL: none */
	bool said_ready;     /* to the manager */
	int64_t watchdog_at; /* when our manager is told next that we are alive; 0: it does not want to hear that */
	bool spoken;         /* a generation has said READY=1: so will the next, and is not ready before */
};

/* A connection from the descriptor store, or of a generation that has left, for the server when it is ready. */
struct carried {
	int fd;
	uint64_t value; /* as in its batch */
};

/* The manager's descriptor store. */
struct store {
	uint64_t *inodes; /* of the kept descriptors that are in it */
	size_t count;
	struct carried *carried;
	size_t carried_count;
	bool leaving; /* what the generations give goes there */
};

/* The exec of the supervisor's own new version. */
struct reexec {
	pid_t probe; /* the new version, which tells whether it can take over; 0: none runs */
	int output;  /* what it said; -1: nothing goes on */
	bool proven; /* it can */
	int64_t until;
	struct stat file; /* what was tried */
};

/* A signal that came while a generation was waited for. */
struct noted_signal {
	int signo;
	bool by_kernel;
};

struct supervisor {
	struct supervisor_options options;
	struct recipe recipe;
	struct holdings holdings;
	struct rules rules;      /* what is kept of a program under a filter */
	bool says_no_rights;
	struct lingering *lingering; /* connections of servers that leave, and have no gate */
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
	int address;        /* where generations report */
	int files;          /* inotify, of watch.h; -1 */
	int64_t changed_at; /* when a restart begins that no caller waits for; 0: none is wanted */
	void *page;         /* by which the tools know us */
	int64_t started_at;
	bool proven; /* a generation was ready once */
	bool ending;
	struct noted_signal noted[16];
	size_t noted_count;
	bool told_to_end; /* that is among them */
	int steady;       /* what is waited for now is not given up for that */
	int status; /* of the server that ended */
	int restarts;
	int64_t last_restart_us, last_gate_us;
	struct figures figures;
	int64_t refresh_at; /* when the serving generation is asked again for what it holds; 0: not */
	int refreshes;
	int64_t start_again_at; /* after a crash; 0: nothing to do */
	int crashes;
	int64_t first_crash_at;
	int64_t passed_at;    /* the serving generation has last been given connections then */
	struct batch pending; /* from a draining generation, until the serving one's line has room */
	bool has_pending;
};

/* lives.c */
bool lives_start(struct supervisor *s); /* the first generation, or the next one after a crash */
bool lives_adopt(struct supervisor *s); /* … a server that runs already, and has lost its supervisor */
void lives_adopted_ended(struct supervisor *s, struct generation *g);
void lives_add(struct supervisor *s, struct generation *g, int number);
void lives_remove(struct supervisor *s, struct generation *g);
void lives_retire(struct supervisor *s, struct generation *g, int signo); /* told to leave: killed 5 s later */
void lives_end_all(struct supervisor *s, int signo);
void lives_tell_end(const struct generation *g, struct text *why); /* how the next generation ended */
void lives_reap(struct supervisor *s);
void lives_search(struct supervisor *s, struct generation *g, int64_t now);
size_t lives_draining(const struct supervisor *s, uint32_t *connections);
void supervisor_restart_unasked(struct supervisor *s); /* after the one that is under way */
void supervisor_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* reports.c */
int reports_listen(struct supervisor *s);
void reports_accept(struct supervisor *s);
void reports_read(struct supervisor *s, struct reporter *r);
void reports_tick(struct supervisor *s, int64_t now);
int64_t reports_due(const struct supervisor *s);
void reports_refresh(struct supervisor *s); /* asks the serving generation for what it holds */
void reports_refresh_soon(struct supervisor *s, int64_t when);

void reports_ready(struct supervisor *s, struct generation *g, const char *said); /* it serves, as far as one sees */
void reports_notified(struct supervisor *s, struct generation *g); /* it has said READY=1 */
void reports_become_ready(struct supervisor *s, struct generation *g); /* nothing more is waited for */

/* notify.c */
int notify_open(struct supervisor *s);
void notify_resume(struct supervisor *s);
void notify_hear(struct supervisor *s);
void notify_ready(struct supervisor *s); /* the first generation serves: our manager is told, once */

void notify_more_time(const struct supervisor *s, int seconds); /* the manager is to wait so long from now on */
void notify_tick(struct supervisor *s, int64_t now);           /* WATCHDOG=1, when it is due */
int64_t notify_due(const struct supervisor *s);
void notify_failed(struct supervisor *s, int error);           /* the supervisor cannot start */
void notify_end(const struct supervisor *s);                   /* has the server failed, and with which status */
void notify_phase(struct supervisor *s, const char *word); /* READY, RELOADING or STOPPING, with a status */
void notify_send(const struct supervisor *s, const char *text, size_t n, int fd); /* fd -1: none */

/* fdstore.c */
void fdstore_take(struct supervisor *s);   /* what the supervisor before this one has left */
void fdstore_keep(struct supervisor *s);   /* what is held now, for the case that all is killed */
bool fdstore_is_current(const struct supervisor *s); /* has the store what is held now? */
bool fdstore_leave(struct supervisor *s);  /* the end, with all stored; false: it cannot be, end as ever */
void fdstore_carry(struct supervisor *s, struct batch *batch); /* stores these connections, and closes ours */
void fdstore_end(struct supervisor *s);
void fdstore_tick(struct supervisor *s);
void fdstore_add_carried(struct supervisor *s, int *fd, uint64_t value); /* *fd is ours then, or the caller's still */

/* turn.c: --one-at-a-time */
int turn_begin(struct supervisor *s, struct text *why);
void turn_take(struct supervisor *s, struct batch *batch); /* connections for the next generation; takes them */
void turn_cut(struct supervisor *s, const struct generation *g); /* what it has still ends with it */
bool turn_ready(struct supervisor *s);                     /* the next generation is ready: was it a turn's? */
void turn_ended(struct supervisor *s, const struct generation *g); /* it has ended, perhaps before it was ready */
void turn_tick(struct supervisor *s, int64_t now);
int64_t turn_due(const struct supervisor *s);

/* gateless.c: programs that nothing can be preloaded into */
int gateless_begin(struct supervisor *s);
void gateless_listens(struct supervisor *s, struct generation *g, struct bound *b);
void gateless_follow_attached(struct supervisor *s);
void gateless_linger(struct supervisor *s, const struct generation *old); /* closes in good order from here on */
void gateless_dismiss(struct supervisor *s, struct generation *old); /* it is told to leave */
void gateless_tick(struct supervisor *s, int64_t now);
int64_t gateless_due(const struct supervisor *s);
void gateless_door(const struct supervisor *s, char *door, size_t size);

/* notices.c: the calls of such a program */
void notices_take(struct supervisor *s, struct generation *g);
int notices_holds(const struct generation *g, uint64_t ino); /* has it this socket open? -errno: it cannot be told */
void notices_settle(struct supervisor *s); /* what is not listening, or was closed, is held no more */

/* signals.c */
int signals_open(struct supervisor *s, sigset_t *before); /* the mask of then, unless that is NULL */
void signals_take(struct supervisor *s);
void signals_note(struct supervisor *s); /* for later */
bool signals_have_room(const struct supervisor *s);
void signals_take_noted(struct supervisor *s);

/* meanwhile.c */
void meanwhile_begin(struct supervisor *s);

/* handover.c */
bool handover_attach(struct supervisor *s); /* the first generation follows a server that was there before */
int handover_begin(struct supervisor *s, const char *path, struct text *why);
void handover_go(struct supervisor *s);                      /* it takes over */
bool handover_is_possible(const struct supervisor *s, struct text *why);
struct generation *handover_one_too_many(const struct supervisor *s);
void handover_ready(struct supervisor *s, const char *said); /* the next generation is ready */
void handover_settled(struct supervisor *s);                 /* ... and has all its threads */
void handover_checked(struct supervisor *s, int status);     /* the health check has ended */
void handover_fail(struct supervisor *s, const char *why);   /* calls it off: the next generation is ended */
void handover_failed(struct supervisor *s, const char *why); /* says that it has failed, and that it is over */
void handover_done(struct supervisor *s);                    /* ... or that the next generation serves */
int handover_start_next(struct supervisor *s, bool gated, struct text *why);
void handover_step_down(struct generation *old); /* it takes nothing new from here on */
void handover_note(struct supervisor *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void handover_tick(struct supervisor *s, int64_t now);
int64_t handover_due(const struct supervisor *s);
void handover_passed(struct supervisor *s); /* the old generation has given what was idle */
bool handover_under_way(const struct supervisor *s);
void handover_drain(struct supervisor *s,
		    struct generation *old); /* there is no way back to it: it goes on with what it has only */

/* helpers.c */
uint32_t helpers_count(const struct supervisor *s, struct generation *g); /* programs that it has exec'ed for clients */

/* stranded.c */
bool stranded_tell(struct supervisor *s); /* what the next one has exec'ed with a door; false: not now */
void stranded_note(const struct supervisor *s, struct generation *g);   /* … those that have a listener: `apart` */

/* locks.c */
bool locks_hinder(struct supervisor *s); /* the next one waits for a lock; or did so for too long, and was called off */
void locks_tick(struct supervisor *s, int64_t now);
int64_t locks_due(const struct supervisor *s);
/* Has `waiter` a file open that `holder` has locked for itself alone? Its path. */
bool locks_keep_out(pid_t waiter, pid_t holder, char *path, size_t size);

/* settle.c */
void settle_begin(struct supervisor *s);
void settle_on(struct supervisor *s); /* … and processes that it has exec'ed come to rest, too */
void settle_tick(struct supervisor *s, int64_t now);
int64_t settle_due(const struct supervisor *s);

/* gates.c: `old` closes its gate, and `next` opens its own; NULL: there is none. 0, or -errno: all is as before */
int gates_swap(struct supervisor *s, struct generation *old, struct generation *next, int64_t *gate_us,
	       struct text *why);

void gates_ask_door(struct supervisor *s); /* of the next generation */

/* canary.c */
bool canary_is_wanted(const struct supervisor *s);
void canary_begin(struct supervisor *s);
bool canary_is_open(const struct supervisor *s); /* the next generation has its turn */
/* Between two turns, the first of so many clients (-1: not known): how many the second is to have; 0: no end */
uint32_t canary_next_turn(struct supervisor *s, int64_t accepted);
void canary_turn_is_over(struct supervisor *s, const struct generation *g); /* it has them */
void canary_checked(struct supervisor *s, int status);
bool canary_give_back(struct supervisor *s); /* it is over: true, the next one goes on with what it has */
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
void journal_restart(const struct supervisor *s, uint32_t carried, size_t draining); /* it has succeeded */

/* rollback.c */
void rollback_watch(struct supervisor *s, const char *listener);
void rollback_give_up(struct supervisor *s); /* nothing is kept any more */
int rollback(struct supervisor *s, int64_t *gate_us, struct text *why);
bool rollback_after_end(struct supervisor *s); /* the serving one has ended: does the old one serve again? */
void rollback_checked(struct supervisor *s, int status);
void rollback_tick(struct supervisor *s, int64_t now);

/* passing.c */
void passing_begin(struct supervisor *s, struct generation *from, struct generation *to);
void passing_call_off(struct generation *from); /* what is on its way is taken still */
void passing_accept(struct supervisor *s, struct generation *from);
void passing_take(struct supervisor *s, struct generation *from, int fd);
void passing_settled(struct supervisor *s, struct generation *from); /* it may leave: what is due by now is done */
void passing_tick(struct supervisor *s, struct generation *from, int64_t now);
void passing_flush(struct supervisor *s);

/* callers.c */
void callers_ring(struct supervisor *s, uint64_t nonce);
void callers_read(struct supervisor *s, struct caller *c);
short callers_events(const struct supervisor *s, struct caller *c); /* what is listened for on its line */
void callers_read_now(struct supervisor *s, struct caller *c);
void callers_read_later(struct supervisor *s);
void callers_tell(struct supervisor *s, const char *text, size_t n, bool last); /* whoever waits for the restart */
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
