/* SPDX-License-Identifier: Apache-2.0 */
/* Perf events that run a program whenever they happen. */
#ifndef PROFINFER_PERF_EVENT_H
#define PROFINFER_PERF_EVENT_H

#include <stdint.h>

#include "problem.h"

/* Opens the event of that type and number for all tasks on a CPU; its descriptor. `what` it is for
 * stands in errors: EXIT_PRIVILEGE naming what is missing, EXIT_PROBES. Where `why` is given, -1
 * and the error in it instead. */
int perf_event_open(uint32_t type, uint64_t config, int cpu, const char *what, struct problem *why);

/* Runs a program whenever the event happens, until the event is closed. EXIT_PROBES. */
void perf_event_run(int event, int program, const char *what);

#endif
