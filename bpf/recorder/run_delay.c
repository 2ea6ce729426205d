/* SPDX-License-Identifier: Apache-2.0 */
#include "run_delay.h"
#include "failure.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

void run_delay_add(struct run_delay *delay, uint32_t tid) {
  if (delay->count == delay->room) {
    delay->room = delay->room ? 2 * delay->room : 16;
    delay->threads = reallocarray(delay->threads, delay->room, sizeof(*delay->threads));
    if (!delay->threads)
      fail(EXIT_KERNEL, "", "out of memory");
  }
  delay->threads[delay->count++] = (struct thread_delay){.tid = tid};
}

/* By the kernel's count; false when it has ended, or the kernel has no CONFIG_SCHED_INFO. */
static bool look_at(struct thread_delay *thread, const struct target *target) {
  char path[64];
  uint64_t waited;
  snprintf(path, sizeof(path), "task/%u/schedstat", thread->tid);
  char *text = target_read(target, path, 0);
  bool is_there = text && sscanf(text, "%*u %" SCNu64, &waited) == 1;
  free(text);
  if (!is_there)
    return false;
  thread->first = thread->is_known ? thread->first : waited;
  thread->last = waited;
  thread->is_known = true;
  return true;
}

void run_delay_look(struct run_delay *delay, const struct target *target) {
  size_t left = 0;
  for (size_t i = 0; i < delay->count; i++) {
    struct thread_delay *thread = &delay->threads[i];
    if (look_at(thread, target)) {
      delay->threads[left++] = *thread;
    } else {
      delay->ended.ns += thread->last - thread->first;
      delay->ended.is_known |= thread->is_known;
    }
  }
  delay->count = left;
}

double run_delay_seconds(const struct run_delay *delay) {
  double sum = delay->ended.is_known ? delay->ended.ns / 1e9 : -1;
  for (size_t i = 0; i < delay->count; i++)
    if (delay->threads[i].is_known)
      sum = (sum < 0 ? 0 : sum) + (delay->threads[i].last - delay->threads[i].first) / 1e9;
  return sum;
}
