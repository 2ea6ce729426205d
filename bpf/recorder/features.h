/* SPDX-License-Identifier: Apache-2.0 */
/* What this kernel can do, found by trying it, never by its version. */
#ifndef PROFINFER_FEATURES_H
#define PROFINFER_FEATURES_H

#include <json-c/json.h>
#include <stdbool.h>

#include "uprobe.h"

/* What records travel through. */
enum transport { TRANSPORT_BY_RING, TRANSPORT_BY_PERF };

struct features {
  enum transport transport;
  const char *why_no_ring; /* "" where records can travel through rings, wanted or not */
  bool multi;              /* probes are attached by uprobe_multi links, else by perf events */
  const char *why_no_link; /* "" where they are */
  bool boot_clock;         /* whether handlers can read CLOCK_BOOTTIME (Linux 5.8) */
  bool task_registers;     /* and find what a task entered the kernel with (Linux 5.15) */
};

/* What a recording is made with. `transport`: "auto", "ring" or "perf"; `attach`: "auto",
 * "uprobe_multi" or "perf_event"; BCC loads no programs for links. EXIT_KERNEL when this kernel
 * lacks what is asked for. */
struct features features_find(const char *transport, const char *attach, bool by_bcc);

/* What `features_say` has said, on this kernel and of the same wishes: to find it out again takes
 * 40 ms. */
struct features features_said(json_object *said);

/* Sets transport, attach, attach_reason, boot_clock and task_registers in a JSON object. */
void features_say(const struct features *features, json_object *in);

#endif
