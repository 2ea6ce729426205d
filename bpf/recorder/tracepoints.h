/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's tracepoints, named as below events/ in tracefs ("sched/sched_process_exec"). */
#ifndef PROFINFER_TRACEPOINTS_H
#define PROFINFER_TRACEPOINTS_H

#include <stddef.h>

#include "problem.h"

/* Where tracefs is mounted; it is mounted where it belongs if it is not, as perf does.
 * EXIT_PRIVILEGE when it is closed to us, EXIT_KERNEL when there is none. Where `why` is given, 0
 * and the error in it instead. */
const char *tracefs(struct problem *why);

/* The number of a tracepoint; -1 when this kernel has none of that name. */
int tracepoint_id(const char *event);

/* Where a field of `size` bytes stands in a tracepoint's record; -1 when it has none. */
int tracepoint_field(const char *event, const char *field, size_t size);

/* The same, but what is missing is an error: EXIT_KERNEL. Where `why` is given, -1 and the error
 * in it instead. */
int tracepoint_need_field(const char *event, const char *field, size_t size, struct problem *why);

/* Bytes of a tracepoint's record up to the end of its last field; 0 when there is none. */
size_t tracepoint_size(const char *event);

/* Runs a program at a tracepoint; the descriptor to close. EXIT_KERNEL where there is none,
 * EXIT_PRIVILEGE, EXIT_PROBES. */
int tracepoint_attach(int program, const char *event);

/* Runs a program at a raw tracepoint ("sched_switch"); the descriptor to close. EXIT_KERNEL. */
int raw_tracepoint_attach(int program, const char *name);

/* Runs a program when the kernel enters one of its functions (a kprobe); the descriptor to close,
 * or -1 where this kernel has no such thing. */
int kprobe_attach(int program, const char *function);

#endif
