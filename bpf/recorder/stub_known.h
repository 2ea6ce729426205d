/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of a process's stubs and their rings: of stub_rings.c and stub_losses.c alone. */
#ifndef PROFINFER_STUB_KNOWN_H
#define PROFINFER_STUB_KNOWN_H

#include "stub_file.h"
#include "stub_rings.h"
#include "ticks.h"
#include "tids.h"

/* What we know of a ring. */
struct ring {
  uint64_t taken;
  uint64_t until;         /* what `next` was at the last drain */
  uint64_t stuck_since;   /* when it first ended at this unfinished one; 0: it does not */
  uint64_t newest;        /* time of those taken out */
  uint64_t lost[HOT + 1]; /* as in the beginning */
  uint64_t sum;           /* of what was lost so far, as last read */
};

struct stub_rings {
  const struct target *target;
  struct stub_file file;
  unsigned cpus;
  uint64_t word;
  bool on[STUBS], is_given_up;
  uint64_t filters_at; /* when it was last looked for them */
  struct ring rings[RINGS_MAX];
  struct stub_ring heads[RINGS_MAX]; /* as they were at the last look */
  unsigned used;                     /* that a thread has had */
  uint64_t looked;                   /* when that was */
  struct ticks ticks;
  struct tids known, strangers; /* threads that are the target's, and that are not */
  uint64_t complete;            /* time before which nothing may come any more */
  uint64_t from, until;         /* between which there is to be anything */
  uint64_t records[HOT + 1];    /* by kind */
  uint64_t refused, unfinished, forbidden;
  uint64_t lost[HOT + 1]; /* of threads without a ring, as in the beginning */
  uint64_t sum;           /* of that, as last read */
};

/* What was lost so far is not of this recording. */
void stub_rings_forget_lost(struct stub_rings *rings);

#endif
