/* SPDX-License-Identifier: MIT */
/* Who was forked and has not exec'ed, found among the descendants of a process, without a word of theirs. A signal handler may call this; keeps errno. */
#ifndef CPR_PROCESS_FORKED_H
#define CPR_PROCESS_FORKED_H

#include <stdbool.h>
#include <stdint.h>

/* Has this process, that /proc says has these flags, not exec'ed since it was forked? */
bool forked_only(unsigned flags);

/* Does this process handle this signal? Not a child of posix_spawn, nor who is another program by now; nor one that is not under cpr. One thread at a time. */
bool forked_catches(int pid, int sig);

enum forked_is { FORKED_NEW, FORKED_KNOWN, FORKED_STRANGE };

/*
 * Calls `found` with each descendant of `root` that was forked, started at or after `since` (as roster_start_time), has not exec'ed, catches `sig`, and of which `is` says that it is new.
 * Strange ones are passed over, and so are their children. False: there may be more (who cannot be told from a child of vfork at the moment), so it is to be asked again.
 *
 * A child of vfork or posix_spawn must not be found: it is about to exec, and what is sent to it would end the program that it becomes. It has its parent wait in the kernel.
 */
bool forked_find(int root, uint64_t since, int sig, enum forked_is (*is)(int pid, uint64_t start_time), void (*found)(int pid, int parent));

#endif
