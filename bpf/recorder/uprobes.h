/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Carries out plans: puts their probes into the target's files, for the target alone. Probes
 * belong to files, so they are named by the very files that the target has mapped, which we hold
 * open.
 */
#ifndef PROFINFER_UPROBES_H
#define PROFINFER_UPROBES_H

#include "handlers.h"
#include "objects.h"

/* What runs for a handler. */
struct handler_program {
  const char *handler;
  int program;
  bool is_empty; /* in its place: it makes no records */
};

/* The probes that are in place. */
struct uprobes {
  const struct programs *programs;
  pid_t pid;
  bool by_link;
  int nothing;       /* runs in the place of hot handlers; -1: they run */
  int *fds;          /* closing one takes its probes away */
  size_t *fd_groups; /* with which others each was attached */
  size_t fd_count, group_count;
  struct placed *placed; /* what is probed */
  size_t count;
  struct handler_program *handlers; /* those that are attached */
  size_t handler_count;
};

/* None yet, in the process `pid`. `empty_handlers`: those that run for every operator do nothing,
 * to see what probing costs. */
struct uprobes uprobes_begin(const struct handlers *handlers, pid_t pid, bool empty_handlers);

/* Attaches every probe up to `level` that is not in place already: plans follow each other while
 * the target loads files. Whether the target was there to the end of it. EXIT_PRIVILEGE or
 * EXIT_PROBES, naming the probes, when the kernel refuses some. */
bool uprobes_attach(struct uprobes *uprobes, const struct objects *objects, enum level level);

/* Takes away those that the plan does not have any more, of files that it has, and what was
 * attached together with them: uprobes_attach() puts back what it does have. */
void uprobes_drop(struct uprobes *uprobes, const struct objects *objects);

/* Takes every probe away; uprobes_attach() puts them back. */
void uprobes_detach(struct uprobes *uprobes);

#endif
