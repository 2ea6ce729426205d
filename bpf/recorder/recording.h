/* SPDX-License-Identifier: Apache-2.0 */
/* The time while probes are in place: drain until something ends it. */
#ifndef PROFINFER_RECORDING_H
#define PROFINFER_RECORDING_H

#include "drain.h"
#include "options.h"

/* SIGINT, SIGTERM and SIGHUP end the recording from now on, not the process. */
void recording_catch_signals(void);

/* From before the first probe on the kernel counts what handlers cost: at first all the time. */
void recording_count_runs(const struct drain *drain, uint64_t ticks);

/* Drains until something ends the recording, from `began` on (CLOCK_MONOTONIC, seconds); what that
 * was. */
const char *recording_run(const struct options *options, const struct target *target,
                          struct drain *drain, double began);

/* A clock in seconds. */
double clock_s(int clock);

#endif
