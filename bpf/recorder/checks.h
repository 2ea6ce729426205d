/* SPDX-License-Identifier: Apache-2.0 */
/* Whether there is what a recording needs; each ends the process where there is not. */
#ifndef PROFINFER_CHECKS_H
#define PROFINFER_CHECKS_H

#include <json-c/json.h>

#include "options.h"
#include "plan.h"

/* EXIT_PRIVILEGE, naming what this process lacks. */
void check_privileges(void);

/* EXIT_PROBES where the plan was made for another machine. */
void check_machine(const struct plan *plan);

/* The level that is to be recorded. EXIT_PLAN where the plan has it not, EXIT_USAGE where it cannot
 * give what else is asked for. */
enum level check_level(const struct options *options, const struct plan *plan);

/* Whether this process sees the machine's PIDs, which are those of the kernel's programs; else it
 * is in a PID namespace of its own, as containers are. */
bool has_all_pids(void);
#define HINT_ALL_PIDS "give the container the machine's PIDs (docker run --pid=host)"
#define MEMORY_NEEDS_ALL_PIDS                                                                      \
  "page faults and reads cannot be told apart by process in a PID namespace of its own"

/* EXIT_KERNEL where something is asked for that needs these; else a note of what is missing. */
void check_pids(const struct options *options, json_object *notes);

#endif
