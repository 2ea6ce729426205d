/* SPDX-License-Identifier: Apache-2.0 */
/* The handlers and their maps in the kernel. */
#ifndef PROFINFER_PROGRAMS_H
#define PROFINFER_PROGRAMS_H

#include <bpf/libbpf.h>

#include "counters.h"
#include "features.h"
#include "plan.h"
#include "rings.h"

struct programs {
  struct bpf_object *object;
  struct features features;
  unsigned cpus; /* that can ever run a handler */
};

/* What to load. */
struct program_options {
  const char *object; /* a file in the place of the embedded one, or 0 */
  enum level level;
  size_t ring_size, structure_ring_size; /* bytes */
  const struct counters *counters;
  bool experts, expert_weights; /* read those */
};

/* CPUs that can ever run a handler. */
unsigned programs_cpus(void);

/* Loads the handlers that the plan needs. EXIT_KERNEL when the kernel refuses, with the end of
 * what it says; EXIT_PLAN when the plan asks for what this object has not. */
struct programs programs_load(const struct program_options *options,
                              const struct features *features, const struct plan *plan);

/* The program of that name. */
struct bpf_program *programs_find(const struct programs *programs, const char *name);

/* The descriptor of a map. */
int programs_map(const struct programs *programs, const char *name);

/* The rings of its transport, mapped. */
struct rings programs_rings(const struct programs *programs, const struct program_options *options);

/* Whether handlers record. */
void programs_activate(const struct programs *programs, bool active);

/* struct loss by CPU and kind, of cpus * KIND_COUNT entries. */
void programs_losses(const struct programs *programs, struct loss *losses);

#endif
