/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of a recording: on the command line, or in a message of profinfer's. */
#ifndef PROFINFER_OPTIONS_H
#define PROFINFER_OPTIONS_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct options {
  pid_t pid;
  char **command;   /* to be launched, ended by 0; 0 for none */
  bool kills;       /* ends it when the recording is over */
  int serve;        /* a socket over which profinfer asks for what is to be done; -1 */
  const char *plan; /* a path */
  const char *output;
  bool force;
  double duration;       /* seconds; 0: until a signal, or the target's end */
  double poll;           /* seconds between drains */
  const char *level;     /* 0: the plan's */
  const char *transport; /* "auto", "ring" or "perf" */
  const char *attach;    /* "auto", "uprobe_multi" or "perf_event" */
  const char *scheduler; /* "auto", "system", "target" or "off" */
  size_t ring_size;      /* bytes, of each CPU's; powers of two, as the others */
  size_t scheduler_ring_size;
  size_t structure_ring_size;         /* in all, or of each CPU's with perf */
  const char *iterations;             /* as given; 0: all */
  uint64_t first_ubatch, last_ubatch; /* record ubatches [first, last); both 0 for all */
  const char *object;
  bool experts, expert_weights; /* read those */
  bool faults, block_io;        /* record those */
  bool evict;                   /* drop the model's pages from memory first */
  bool empty_handlers;          /* operators and barriers are probed and not recorded */
  double alternate;             /* seconds of being on, and off, in turn; 0: on */

  /* Where profinfer asks. */
  int socket; /* what is said of this recording; -1 */
  int plan_fd, capture_fd;
  bool stays;    /* until it is told to end, not only until the target does */
  bool is_alone; /* but nobody shows what comes of it: it says so itself */
  bool by_bcc;
  json_object *means; /* what was found out about this kernel before, or 0 */
  bool shows_progress;
};

/* Of the command line. EXIT_USAGE when something is wrong; --help and --version print and end the
 * process. */
struct options options_parse(int argc, char **argv);

/* Of a message {"verb": "record", ...}, from a part of the program that knows what it asks. */
struct options options_of(json_object *message);

#endif
