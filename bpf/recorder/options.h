/* SPDX-License-Identifier: Apache-2.0 */
/* What the command line asks for. */
#ifndef PROFINFER_OPTIONS_H
#define PROFINFER_OPTIONS_H

#include <sys/types.h>

#include "plan.h"
#include "programs.h"

struct options {
  pid_t pid;
  const char *plan;
  const char *output;
  bool force;
  double duration;                       /* seconds; 0: until a signal, or the target's end */
  double poll;                           /* seconds between drains */
  const char *level;                     /* 0: the plan's */
  const char *transport;                 /* "auto", "ring" or "perf" */
  size_t ring_size, structure_ring_size; /* bytes; powers of two */
  const char *object;
  bool experts, expert_weights;
};

/* EXIT_USAGE when something is wrong; --help and --version print and end the process. */
struct options options_parse(int argc, char **argv);

#endif
