/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that run, but of whose beginning nothing was recorded: who they are /proc must tell. */
#ifndef PROFINFER_STRANGERS_H
#define PROFINFER_STRANGERS_H

#include <linux/types.h>
#include <stdint.h>

#include "../records.h"
#include "set.h"
#include "tids.h"

struct strangers {
  struct tids known;
  struct set met; /* not known when they were met */
};

struct strangers strangers_begin(void);

/* Nothing more need be told of this thread. */
void strangers_know(struct strangers *strangers, uint32_t tid);

/* Records of the scheduler, in any order. */
void strangers_meet(struct strangers *strangers, const struct record *records, size_t count);

/* The threads that have been met and are still not known, which they are from then on: how many,
 * and in memory of its own which. */
size_t strangers_take(struct strangers *strangers, uint32_t **tids);

#endif
