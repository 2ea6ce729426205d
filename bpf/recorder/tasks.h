/* SPDX-License-Identifier: Apache-2.0 */
/* Processes and threads of the machine, as /proc tells of them: names and who belongs to whom. */
#ifndef PROFINFER_TASKS_H
#define PROFINFER_TASKS_H

#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "set.h"

/* Some of them, as they are written into a frame: no more is held than its text. */
struct tasks {
  FILE *processes, *threads;
  char *process_text, *thread_text;
  size_t process_length, thread_length;
  struct set seen; /* processes */
};

/* Told of each thread that is found. */
typedef void task_fn(void *context, uint32_t tid);

struct tasks tasks_begin(void);

/* All that there are now. */
void tasks_add_all(struct tasks *tasks, task_fn *found, void *context);

/* The process of a thread with all its threads, once; nothing when it has ended. */
void tasks_add(struct tasks *tasks, pid_t tid, task_fn *found, void *context);

/* A TASKS frame's text; with "since" where that is not 0. */
char *tasks_end(struct tasks *tasks, uint64_t since);

/* How much of a thread's name is its name: what a worker of the kernel's works on at the moment is
 * no part of it. */
size_t task_name_length(const char *name);

#endif
