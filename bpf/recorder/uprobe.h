/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A uprobe: a program at places of a file, in one process. Two ways to the same counts: a
 * uprobe_multi link takes all places of a program at once and lets go of them at once; where there
 * is none, each place takes a perf event.
 */
#ifndef PROFINFER_UPROBE_H
#define PROFINFER_UPROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* expected_attach_type of a program that a link takes (BPF_TRACE_UPROBE_MULTI, where headers are
 * too old to have it). */
#define UPROBE_MULTI 48

/* A program that returns at once; -1, with errno. */
int uprobe_nothing(bool by_link);

/* By one link: its descriptor, or -1, with errno, when the kernel refuses. */
int uprobe_link(int program, const char *path, const uint64_t *offsets, size_t count, pid_t pid,
                bool at_return);

/* By perf events, one after the other into `fds`; how many there are when the kernel refuses the
 * next one, with errno. EXIT_KERNEL where it has no uprobe events. */
size_t uprobe_events(int program, const char *path, const uint64_t *offsets, size_t count,
                     pid_t pid, bool at_return, int *fds);

/* Takes them away. */
void uprobe_close(const int *fds, size_t count);

#endif
