/* SPDX-License-Identifier: Apache-2.0 */
/* What a process has mapped where, as that changes, in MAPPINGS frames. Of a region no more is
 * remembered than tells whether it is still the same. */
#ifndef PROFINFER_MAPPINGS_H
#define PROFINFER_MAPPINGS_H

#include "models.h"
#include "regions.h"

struct mappings {
  const struct target *target;
  struct models models; /* of the files that were mapped or open at any look */
  struct known {
    uint64_t start, identity;
  } * known, *found; /* as of the last look; room for the next one */
  size_t count, room;
  uint64_t pages; /* of address space, as of the last look */
  uint64_t open;  /* files, as open_files_count has them, as of the last look */
  double changed; /* when there was more or less at last, CLOCK_MONOTONIC in seconds */
  double took;    /* seconds of CPU, the last look */
};

/* Nothing is known yet. */
struct mappings mappings_open(const struct target *target);

/* Writes what has changed since the last look into the capture, in one MAPPINGS frame or, when it
 * is much, several of one time: {"new": [{start, end, offset, device, inode, path}], "gone":
 * [{start}]}; none when the process has ended. New files that begin like a model are kept, whether
 * mapped or open. */
void mappings_look(struct mappings *mappings);

/* Looks only if the process has more or less address space, or open files, than at the last look:
 * that costs a hundredth. What has taken the very place of something else is seen by the next look.
 */
void mappings_glance(struct mappings *mappings);

/* Seconds until the next glance: soon while things change, for a model may be mapped or open for
 * some milliseconds only, but never so soon that looking takes much of a CPU. */
double mappings_nap(const struct mappings *mappings);

/* Lets go of the models, and of the memory. */
void mappings_close(struct mappings *mappings);

#endif
