/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nobody is left stopped: a process that waits for the end of this one, whatever ends it, and then
 * lets everybody go on whom our programs hold. Nothing that ends this process or its terminal
 * reaches it, and it keeps no file of anybody's open.
 *
 * What the kernel would undo by itself does not serve. A tracer's end lets its processes go, but a
 * process has one tracer, and LeakSanitizer, gdb or strace inside the command want to be it. A
 * listener of seccomp that ends fails the calls that wait for it. One of fanotify lets them pass,
 * but is asked before a file is mapped, and by everybody who opens it.
 */
#ifndef PROFINFER_GUARD_H
#define PROFINFER_GUARD_H

#include "held.h"

/* Starts it. `held`: the map. EXIT_KERNEL. */
void guard_start(int held);

/* Starts another one where it has been killed. */
void guard_check(int held);

/* Lets a process go on that is in the map: this process may be killed at any point of that. */
void guard_let_go(int map, const struct held *held);

/* There is nobody to be let go any more: ends it. */
void guard_end(void);

/* In a forked child: closes what would keep it waiting. */
void guard_leave(void);

#endif
