/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes out of the kernel, by either transport: the records of each CPU, and wide ones. Nobody
 * is woken and nothing waits: the recorder looks.
 */
#ifndef PROFINFER_RINGS_H
#define PROFINFER_RINGS_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../records.h"

/* Whole records of one CPU, in the order in which they were sent. They are gone after the call. */
typedef void records_fn(void *context, const struct record *records, size_t count);

/* Whole wide records, of WIDE_SIZE bytes each. */
typedef void wide_fn(void *context, const unsigned char *rows, size_t count);

struct rings {
  unsigned cpus;

  /* Whether what follows an unfinished record is younger than what was taken before it. */
  bool in_order;

  /* How full the fullest ring is, between 0 and 1. */
  double (*fill)(void);

  /* Takes everything out that this CPU had sent before the call. Whether a handler has begun a
   * record there that was not finished. */
  bool (*drain)(unsigned cpu, records_fn *take, void *context);

  /* Takes all wide records out. */
  void (*drain_wide)(wide_fn *take, void *context);
};

/* Either takes the descriptors of the maps that bpf/ names so, and sizes in bytes (powers of two).
 * EXIT_KERNEL when they cannot be mapped. */
struct rings ring_transport(int ring_heads, int ring_slots, int structure_ring, unsigned cpus,
                            size_t ring_size, size_t structure_ring_size);
struct rings perf_transport(int ring_heads, int record_events, int structure_events, unsigned cpus,
                            size_t ring_size, size_t structure_ring_size);

#endif
