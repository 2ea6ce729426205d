/* SPDX-License-Identifier: Apache-2.0 */
/* How long the target's threads stood in line for a CPU while they were recorded: the recorder is
 * one of those that may have stood in their way, for as long as it ran itself. */
#ifndef PROFINFER_RUN_DELAY_H
#define PROFINFER_RUN_DELAY_H

#include "target.h"

struct run_delay {
  struct thread_delay {
    uint32_t tid;
    bool is_known;
    uint64_t first, last; /* ns that it has waited in all, by the kernel's count */
  } * threads;
  size_t count, room;
  struct {
    bool is_known;
    uint64_t ns;
  } ended; /* what those have waited that are no more: an engine may make threads for each graph */
};

/* A thread to be watched from the next look on. */
void run_delay_add(struct run_delay *delay, uint32_t tid);

/* Reads on. A thread counts from the first look at it to the last one before its end. */
void run_delay_look(struct run_delay *delay, const struct target *target);

/* Sum over the threads; -1 when nothing could be read. */
double run_delay_seconds(const struct run_delay *delay);

#endif
