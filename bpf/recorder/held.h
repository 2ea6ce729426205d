/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes that our programs have stopped (bpf/launch.h) and that have not been let go on. They
 * stand in a map of the kernel's, which outlives this process.
 */
#ifndef PROFINFER_HELD_H
#define PROFINFER_HELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* As many as the map has room for. */
#define HELD_MAX 1024

/* Why (bpf/launch.h); 0: it has loaded something. */
#define AT_WORK 1
#define AFTER_EXEC 2
#define FORKED 4
#define SETTLED 16
#define WHY 31

struct held {
  pid_t pid;
  uint64_t since; /* CLOCK_MONOTONIC, in ns; the lowest bits say why */
};

enum held_state {
  HELD_GONE,   /* it has ended; its PID may be another process's */
  HELD_MOVING, /* the signal has not stopped all of its threads yet */
  HELD_STILL,  /* they stand, or 2 s have passed in which they did not */
};

/* Everybody in the map. */
size_t held_list(int map, struct held list[HELD_MAX]);

/* Whether this process is in the map. */
bool held_find(int map, pid_t pid, struct held *found);

/* Takes it out of the map. */
void held_delete(int map, const struct held *held);

enum held_state held_look(const struct held *held);

/* Sends SIGCONT to that process, and never to another that has its PID now. */
void held_continue(const struct held *held);

/* CLOCK_MONOTONIC, in ns. */
uint64_t monotonic_ns(void);

#endif
