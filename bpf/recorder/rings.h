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
#include "horizon.h"

/* Whole records of one CPU, in the order in which they were sent. They are gone after the call. */
typedef void records_fn(void *context, const struct record *records, size_t count);

/* Whole wide records, of WIDE_SIZE bytes each. */
typedef void wide_fn(void *context, const unsigned char *rows, size_t count);

/* The rings of some programs, by either transport. */
struct rings {
  unsigned cpus;
  void *state; /* the transport's own */
  double (*fill)(void *state);
  enum seen (*drain)(void *state, unsigned cpu, records_fn *take, void *context);
  enum seen (*drain_wide)(void *state, wide_fn *take, void *context);
  uint64_t (*dropped)(void *state);
};

/* How full the fullest ring is, between 0 and 1. */
static inline double rings_fill(const struct rings *rings) { return rings->fill(rings->state); }

/* Takes everything out that this CPU had sent before the call, up to the first record that a
 * handler has begun and not finished. */
static inline enum seen rings_drain(const struct rings *rings, unsigned cpu, records_fn *take,
                                    void *context) {
  return rings->drain(rings->state, cpu, take, context);
}

/* Takes the wide records out, up to such a one. */
static inline enum seen rings_drain_wide(const struct rings *rings, wide_fn *take, void *context) {
  return rings->drain_wide(rings->state, take, context);
}

/* Records that the kernel itself says it has dropped, as far as they were drained: never more than
 * the programs have counted. */
static inline uint64_t rings_dropped(const struct rings *rings) {
  return rings->dropped(rings->state);
}

/* In the place of a map, where programs have no wide records. */
#define NO_WIDE (-1)

/* Either takes the descriptors of the maps that bpf/ names so, and sizes in bytes (powers of two).
 * EXIT_KERNEL when they cannot be mapped. */
struct rings ring_transport(int ring_heads, int ring_slots, int structure_ring, unsigned cpus,
                            size_t ring_size, size_t structure_ring_size);
struct rings perf_transport(int ring_heads, int record_events, int structure_events, unsigned cpus,
                            size_t ring_size, size_t structure_ring_size);

#endif
