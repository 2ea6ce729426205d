/* SPDX-License-Identifier: Apache-2.0 */
/* What a capture says of its recording: the START frame and the END frame. */
#ifndef PROFINFER_METADATA_H
#define PROFINFER_METADATA_H

#include "drain.h"
#include "options.h"
#include "scheduler.h"
#include "uprobes.h"

/* The START frame: the plan's, with this machine, this target and, on the command line, these
 * options. `scheduler`, `evicted`: 0 where that was not asked for. */
void metadata_start(const struct options *options, const struct plan *plan,
                    const struct objects *objects, enum level level,
                    const struct handlers *handlers, const struct counters *counters,
                    const struct scheduler *scheduler, json_object *evicted);

/* What the END frame tells. */
struct metadata_totals {
  const struct drain *drain;
  const struct uprobes *uprobes;
  const struct memory
      *memory; /* what the kernel has counted of the target's; 0: not over the same time */
  const struct memory *programs_of_memory;
  const struct scheduler *scheduler; /* or 0 */
  json_object *notes;
  const char *silent; /* what is to be said of probes that nothing came from, or 0 */
  json_object *turns; /* when it was on and off (turns.h), or 0 */
  const char *reason;
  double seconds,
      cpu_seconds; /* of the recording, from attaching on: time, and the recorder's own */
  json_object *command_status; /* or 0 */
  json_object *hit_cost;       /* what a hit cost at the end, as START has it, or 0 */
};

/* The END frame. */
void metadata_end(const struct metadata_totals *totals);

#endif
