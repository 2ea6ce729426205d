/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Probes that nothing comes from: whoever waits for a recording is told which, and what the reason
 * may be, after some seconds of the target's CPU time; and at the end.
 */
#ifndef PROFINFER_SILENCE_H
#define PROFINFER_SILENCE_H

#include "drain.h"
#include "options.h"

#include <stdbool.h>

struct silence {
  const struct options *options;
  const struct plan *plan;
  const struct target *target;
  enum level level;
  double began, used; /* CPU time of the target, in seconds */
  bool is_said;
  enum level said; /* LEVEL_COUNT: nothing was called */
};

struct silence silence_begin(const struct options *options, const struct plan *plan,
                             const struct target *target, enum level level);

/* After a drain: what to say now, once; 0: nothing. */
const char *silence_look(struct silence *silence, const struct drain *drain);

/* The functions of that, an array of names; 0 where nothing else was called either. */
json_object *silence_symbols(const struct silence *silence);

/* What to say of the recording as a whole; 0: nothing. */
const char *silence_end(struct silence *silence, const struct drain *drain);

#endif
