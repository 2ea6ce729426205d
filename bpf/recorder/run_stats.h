/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's counting of what programs cost. It costs more than a handler itself: pace.h says
 * when it is worth that. */
#ifndef PROFINFER_RUN_STATS_H
#define PROFINFER_RUN_STATS_H

#include <stdbool.h>

/* Switches it on or off; on stays off where the kernel cannot. */
void run_stats_set(bool is_wanted);

#endif
