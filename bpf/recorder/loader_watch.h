/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dynamic loaders of processes: each calls an empty function of its own (for debuggers) when it
 * has changed the list of objects. A program of ours runs there.
 */
#ifndef PROFINFER_LOADER_WATCH_H
#define PROFINFER_LOADER_WATCH_H

#include <sys/types.h>

/* Watches the loader that a process has mapped now, if it has one and is not watched yet.
 * EXIT_PROBES when the kernel refuses. */
void loader_watch(int program, pid_t pid);

/* Watches `kept` only; 0: nobody. */
void loader_watch_only(pid_t kept);

/* In a forked child: closes what it has inherited. */
void loader_watch_leave(void);

#endif
