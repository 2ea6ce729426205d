/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dynamic loaders of processes: each calls an empty function of its own (for debuggers) when it
 * has changed the list of objects. A program of ours runs there.
 */
#ifndef PROFINFER_LOADER_WATCH_H
#define PROFINFER_LOADER_WATCH_H

#include "target.h"

/* Watches the loader among a process's mappings, if there is one that is not watched yet: in all
 * processes, so that the program has to ask whose call it sees. EXIT_PROBES when the kernel
 * refuses. */
void loader_watch(int program, const struct target *target, const struct mapping *mappings,
                  size_t count);

/* Whether this mapping is of a loader that is watched. */
bool loader_is_watched(const struct mapping *mapping);

/* Watches none any more, and closes these (-1: none) meanwhile: the kernel takes 0.1 s for each. */
void loader_watch_end(const int *beside, size_t count);

/* In a forked child: closes what it has inherited. */
void loader_watch_leave(void);

#endif
