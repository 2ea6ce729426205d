/* SPDX-License-Identifier: Apache-2.0 */
/* From rings to frames: one drain takes everything that is complete and says up to when. */
#ifndef PROFINFER_DRAIN_H
#define PROFINFER_DRAIN_H

#include "objects.h"
#include "programs.h"
#include "run_delay.h"
#include "set.h"

struct drain {
  const struct programs *programs;
  const struct objects *objects;
  struct rings rings;
  char *target_name;
  struct set named;       /* threads */
  struct set backends;    /* get_name functions */
  struct set fresh;       /* threads that this drain met first; emptied by their NAMES frame */
  struct run_delay delay; /* of the threads that records came from */
  struct loss *losses;    /* by CPU and kind, as last read */
  uint64_t *newest;       /* by CPU, the youngest record of this drain; 0 for none */
  uint64_t read_at;       /* when the losses were read */
  uint64_t horizon;
  uint64_t drained[KIND_COUNT]; /* records so far, by kind */
  uint64_t records;             /* all of them, wide ones as well */
};

/* Nothing is read yet. */
struct drain drain_begin(const struct programs *programs, const struct objects *objects,
                         struct rings rings);

/* Writes everything that has been sent into the capture. */
void drain_take(struct drain *drain);

/* Records that did not fit so far: of one kind, and of all. */
uint64_t drain_lost_of(const struct drain *drain, unsigned kind);
uint64_t drain_lost(const struct drain *drain);

#endif
