/* SPDX-License-Identifier: Apache-2.0 */
/* What this kernel can do, found by trying it, never by its version. */
#ifndef PROFINFER_FEATURES_H
#define PROFINFER_FEATURES_H

#include <stdbool.h>

/* enum bpf_attach_type, where headers are too old to have it. */
#define UPROBE_MULTI 48

/* What records travel through. */
enum transport { TRANSPORT_BY_RING, TRANSPORT_BY_PERF };

struct features {
  enum transport transport;
  bool multi;              /* probes are attached by uprobe_multi links, else by perf events */
  const char *why_no_link; /* "" where they are */
  bool boot_clock;         /* whether handlers can read CLOCK_BOOTTIME (Linux 5.8) */
};

/* `transport`: "auto", "ring" or "perf". EXIT_KERNEL when this kernel lacks what is asked for. */
struct features features_find(const char *transport);

#endif
