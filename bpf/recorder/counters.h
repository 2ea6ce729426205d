/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events that count, one per CPU, and the programs that share them out to threads (bpf/counters.h).
 * Which is for the plan to say; what does not exist here is left out, with a note.
 */
#ifndef PROFINFER_COUNTERS_OPENED_H
#define PROFINFER_COUNTERS_OPENED_H

#include <json-c/json.h>

#include "programs.h"

struct counters {
  size_t count;           /* of counters */
  unsigned cpus;          /* that can ever be there */
  json_object *events;    /* what the START frame says of each */
  json_object *notes;     /* what could not be counted, and why */
  int *fds;               /* by counter and CPU, -1 where it does not count; closed once lent */
  int *groups;            /* number of each counter's group */
  uint32_t leaders;       /* a bit for each that is the first of a group on a PMU */
  uint32_t always;        /* a bit for each that never waits for hardware */
  unsigned records;       /* of a reading */
  int on_exit, on_switch; /* while they are shared out */
};

/* Opens the events that a plan wants counted (0: none). `notes`: what it says of others. */
struct counters counters_open(json_object *wanted, json_object *notes, unsigned cpus);

/* EXIT_KERNEL when some were wanted and none can be had. */
void counters_check(const struct counters *counters, json_object *wanted);

/* Lends the events to the handlers and begins to share them out. */
void counters_start(struct counters *counters, const struct programs *programs);

/* Ends that: whoever is switched to and from is nobody's affair any more. */
void counters_end(const struct counters *counters);

/* Says in the START frame what is counted, if anything was asked for. */
void counters_say(const struct counters *counters, json_object *start);

#endif
