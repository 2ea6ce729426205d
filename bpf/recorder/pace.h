/* SPDX-License-Identifier: Apache-2.0 */
/* When the recorder drains: at a fixed interval, and at once when a ring fills up. It decides; time
 * and what is in the rings are told to it. */
#ifndef PROFINFER_PACE_H
#define PROFINFER_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct pace {
  double interval;     /* seconds between drains */
  double next_drain;   /* CLOCK_MONOTONIC, seconds */
  uint64_t next_clock; /* CLOCK_BOOTTIME, ns */
  uint64_t drains;
  bool is_hurried; /* a ring was filling up at the last drain */
};

/* Drains every `interval` seconds from now on. */
struct pace pace_begin(double interval, double now, uint64_t now_ns);

/* Seconds until the rings are to be looked at again; `has_small_rings`: those of threads, too. */
double pace_nap(const struct pace *pace, bool has_small_rings);

/* Whether to drain now, when the fullest ring is filled by `fill` (0 to 1). */
bool pace_is_due(struct pace *pace, double now, double fill, bool at_once);

/* Whether it is time for another snapshot of the clocks. */
bool pace_is_clock_due(struct pace *pace, uint64_t now_ns);

/* Whether to count what handlers cost until the next drain: that costs more than a handler does. */
bool pace_counts_runs(const struct pace *pace, uint64_t records);

#endif
