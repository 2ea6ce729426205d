/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PID namespace that this process lives in, as a container has one of its own. All that is
 * recorded bears its numbers; the kernel's programs know threads by the machine's and look the
 * others up (bpf/pids.h).
 */
#ifndef PROFINFER_PID_NAMESPACE_H
#define PROFINFER_PID_NAMESPACE_H

#include <stdbool.h>
#include <stdint.h>

#include "source.h"

/* Whether its numbers are the machine's. */
bool pids_are_the_machines(void);

/* What tells it from every other of this boot. */
uint32_t pids_inode(void);

/* "", or why the programs cannot tell its numbers here; and what to do about it. */
const char *pids_problem(void);
#define HINT_ALL_PIDS "give the container the machine's PIDs (docker run --pid=host)"

/* EXIT_KERNEL where they cannot. */
void pids_check(void);

/* Sets PID_PARAMETERS of bpf/parameters.h. */
void pids_parameters(struct source *source);

#endif
