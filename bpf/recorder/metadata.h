/* SPDX-License-Identifier: Apache-2.0 */
/* What a capture says of its recording: the START frame (profinfer/metadata.py makes the same), and
 * the END frame. */
#ifndef PROFINFER_METADATA_H
#define PROFINFER_METADATA_H

#include "drain.h"
#include "options.h"

/* The START frame: the plan's, with this machine, this target and these options. */
void metadata_start(const struct plan *plan, const struct objects *objects,
                    const struct options *options, enum level level,
                    const struct programs *programs, const struct counters *counters);

/* The END frame. `cpu_seconds`: the recorder's own, from attaching on. */
void metadata_end(const struct plan *plan, const struct drain *drain, enum level level,
                  const char *reason, double seconds, double cpu_seconds);

#endif
