/* SPDX-License-Identifier: Apache-2.0 */
/* Whether there is what a recording needs; each ends the process where there is not. */
#ifndef PROFINFER_CHECKS_H
#define PROFINFER_CHECKS_H

#include "options.h"
#include "plan.h"

/* EXIT_PRIVILEGE, naming what this process lacks. */
void check_privileges(void);

/* EXIT_PROBES where the plan was made for another machine. */
void check_machine(const struct plan *plan);

/* The level that is to be recorded. EXIT_PLAN where the plan has it not, EXIT_USAGE where it cannot
 * give what else is asked for. */
enum level check_level(const struct options *options, const struct plan *plan);

#endif
