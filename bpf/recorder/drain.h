/* SPDX-License-Identifier: Apache-2.0 */
/* From rings to frames: one drain takes everything that is complete and says up to when. */
#ifndef PROFINFER_DRAIN_H
#define PROFINFER_DRAIN_H

#include "handlers.h"
#include "losses.h"
#include "objects.h"
#include "rings.h"
#include "run_delay.h"
#include "set.h"
#include "stub_rings.h"
#include "tids.h"

struct drain {
  const struct handlers *handlers;
  const struct objects *objects;
  struct rings rings;
  char *target_name;
  struct tids named;        /* threads */
  struct set backends;      /* get_name functions */
  struct set fresh;         /* threads that this drain met first; emptied by their NAMES frame */
  struct run_delay delay;   /* of the threads that records came from */
  struct stub_rings *stubs; /* 0: none record */
  struct losses losses;
  struct losses stub_losses;
  struct look *looks; /* by CPU, of this drain; then of the wide records, and of stubs */
  struct horizon horizon;
  uint64_t drained[KIND_COUNT]; /* records so far, by kind */
  uint64_t records;             /* all of them, wide ones as well */
  uint64_t pages_read;          /* that KIND_FILE_READ tells of */
};

/* Nothing is read yet. */
struct drain drain_begin(const struct handlers *handlers, const struct objects *objects,
                         struct rings rings);

/* How full the fullest ring is, between 0 and 1. */
double drain_fill(const struct drain *drain);

/* Writes everything that has been sent into the capture. What is younger than `limit` (UINT64_MAX:
 * none) is not called complete. */
void drain_take(struct drain *drain, uint64_t limit);

/* Records that did not fit so far: of one kind, and of all. */
uint64_t drain_lost_of(const struct drain *drain, unsigned kind);
uint64_t drain_lost(const struct drain *drain);

/* What stubs have recorded of a kind, and could not. */
uint64_t drain_by_stubs(const struct drain *drain, unsigned kind);

#endif
