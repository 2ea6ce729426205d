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

/* enum bpf_attach_type, where headers are too old to have it. */
#define UPROBE_MULTI 48

/* Whether this kernel has uprobe_multi links that filter whole processes: early ones filtered
 * threads. Found out by trying: a second thread of ours runs into a probe of our own. */
bool uprobes_have_multi(void);

/* The probes that are in place. */
struct uprobes {
  int *fds; /* closing one takes its probe away */
  size_t count;
};

/* Attaches every probe up to `level`. EXIT_TARGET when the target has ended, EXIT_PRIVILEGE or
 * EXIT_PROBES, naming the probe, when the kernel refuses one. */
struct uprobes uprobes_attach(const struct programs *programs, const struct objects *objects,
                              enum level level, bool multi);

/* Takes every probe away. */
void uprobes_detach(struct uprobes *uprobes);

#endif
