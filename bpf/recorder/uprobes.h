/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Carries out the plan: puts the probes into the target's files, for the target alone. Probes
 * belong to files, so they are named by the very files that the target has mapped, which we hold
 * open.
 */
#ifndef PROFINFER_UPROBES_H
#define PROFINFER_UPROBES_H

#include "objects.h"
#include "programs.h"

/* A uprobe_multi link: runs a program at a file's offset in one process; -1, with errno, when the
 * kernel refuses. */
int uprobes_link(int program, const char *path, uint64_t offset, pid_t pid, bool at_return);

/* The probes that are in place. */
struct uprobes {
  int *fds; /* closing one takes its probe away */
  size_t count;
};

/* Attaches every probe up to `level`. EXIT_TARGET when the target has ended, EXIT_PRIVILEGE or
 * EXIT_PROBES, naming the probe, when the kernel refuses one. */
struct uprobes uprobes_attach(const struct programs *programs, const struct objects *objects,
                              enum level level);

/* Takes every probe away. */
void uprobes_detach(struct uprobes *uprobes);

#endif
