/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The places where an engine begins to work: what it needs has been loaded by then. A program of
 * ours runs there, in processes of a launched command.
 */
#ifndef PROFINFER_WORK_WATCH_H
#define PROFINFER_WORK_WATCH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Watches these places of a file in a process (0: in all), besides what is watched already. A place
 * that the kernel refuses is left out. */
void work_watch(int program, pid_t pid, int file, const uint64_t *offsets, size_t count);

/* Watches nothing in this process alone any more; 0: nothing at all. */
void work_watch_end(pid_t pid);

/* In a forked child: closes what it has inherited. */
void work_watch_leave(void);

#endif
