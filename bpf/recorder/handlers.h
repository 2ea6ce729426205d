/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's handlers in the kernel (bpf/handlers.h and what it includes), and how to speak with
 * them. */
#ifndef PROFINFER_HANDLERS_LOADED_H
#define PROFINFER_HANDLERS_LOADED_H

#include "counters.h"
#include "features.h"
#include "memory.h"
#include "options.h"
#include "plan.h"
#include "programs.h"
#include "rings.h"

struct handlers {
  struct programs *programs;
  struct features features;
  unsigned cpus; /* that can ever run one */
};

/* CPUs that can ever run a handler. */
unsigned handlers_cpus(void);

/* Loads what the plan and the options need. EXIT_KERNEL when the kernel refuses, EXIT_PLAN when the
 * plan asks for a handler that there is not. */
struct handlers handlers_load(const struct options *options, enum level level,
                              const struct features *features, const struct plan *plan,
                              const struct counters *counters, const struct memory *memory);

/* Tells them how the plan's steps are called. */
void handlers_tell_steps(const struct handlers *handlers, const struct plan *plan);

/* Their rings, mapped. */
struct rings handlers_rings(const struct handlers *handlers, const struct options *options);

/* Whether they record: all ubatches, or those that the options name. */
void handlers_activate(const struct handlers *handlers, const struct options *options);
void handlers_deactivate(const struct handlers *handlers);

/* What they count. */
struct control handlers_control(const struct handlers *handlers);

/* struct loss by CPU and kind, of cpus * KIND_COUNT entries. */
void handlers_losses(const struct handlers *handlers, struct loss *losses);

#endif
