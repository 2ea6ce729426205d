/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler's tracepoints (bpf/scheduler.h): its programs, their rings, and what comes out of
 * them. */
#ifndef PROFINFER_SCHEDULER_H
#define PROFINFER_SCHEDULER_H

#include <json-c/json.h>
#include <stdbool.h>
#include <sys/types.h>

#include "features.h"
#include "losses.h"
#include "programs.h"
#include "rings.h"
#include "strangers.h"

/* A program for each kind of record but KIND_NEWNAME, which comes with KIND_NEWTASK. */
#define SCHEDULER_PROGRAMS 7

struct scheduler {
  bool is_all; /* everything on every CPU; else what involves the target's threads */
  bool names_calls, names_reasons;
  bool has_boot_clock;
  pid_t target;
  struct programs *programs;
  struct rings rings;
  struct scheduler_control *control;
  const struct loss *lost; /* by CPU and kind, where the programs count */
  struct {
    int program;                /* -1: this kernel has no such tracepoint */
    int attached;               /* -1: it is not */
    struct program_stats first; /* before the recording */
    uint64_t missed;            /* since then: how often the kernel has skipped it */
  } events[SCHEDULER_PROGRAMS];

  /* ---- What has come out */
  struct horizon horizon;
  uint64_t records;
  uint64_t drained[SCHEDULER_KINDS];
  struct losses losses;
  struct look *looks; /* by CPU, of this drain */
  struct strangers strangers;
};

/* Loads them for a target, with rings of so many bytes. `mode`: "off" (0 is returned), "system",
 * "target", or "auto" and "auto-target": the same where this kernel can, else 0 and a note.
 * EXIT_KERNEL where what is asked for cannot be had. */
struct scheduler *scheduler_load(const char *mode, const struct features *features,
                                 size_t ring_size, pid_t target, json_object *notes);

/* The same, of the whole system or of the target only. Where `why` is given, 0 and the reason in it
 * when that cannot be had. */
struct scheduler *scheduler_try(bool is_all, const struct features *features, size_t ring_size,
                                pid_t target, char **why);

/* How it is recorded, for the START frame. */
json_object *scheduler_json(const struct scheduler *scheduler);

/* Starts recording, and writes who there is into the capture. */
void scheduler_attach(struct scheduler *scheduler);

/* Goes on after scheduler_detach(): what happened meanwhile is missing. */
void scheduler_resume(struct scheduler *scheduler);

/* Ends it; what is in the rings can still be taken. */
void scheduler_detach(struct scheduler *scheduler);

/* Writes everything that has been sent into the capture; the horizon. */
uint64_t scheduler_take(struct scheduler *scheduler);

/* ---- All of these: 0, or nothing, where no scheduler is recorded (0) */

/* How full the fullest ring is, between 0 and 1. */
double scheduler_fill(const struct scheduler *scheduler);

/* So far: those that were taken, and those that did not fit or whose program was skipped. */
uint64_t scheduler_records(const struct scheduler *scheduler);
uint64_t scheduler_lost(const struct scheduler *scheduler);

/* Adds its programs, and what they have cost, to END's "event_programs". */
void scheduler_event_programs(const struct scheduler *scheduler, json_object *list);

/* ---- Between its files */

/* By program: its name, its tracepoint, and the kind of its records. */
struct scheduler_event {
  const char *program, *tracepoint;
  enum scheduler_kind kind;
  bool is_raw;
};
extern const struct scheduler_event scheduler_events[SCHEDULER_PROGRAMS];
#define SCHEDULER_SWITCH 0
#define SCHEDULER_REASON 6

/* Whether a system call of our own is recorded under its number. */
bool scheduler_shows_calls(struct scheduler *scheduler);

/* What the programs have counted stands as it did before the recording; and that everything is
 * recorded since a time. */
void scheduler_begin(struct scheduler *scheduler);
void scheduler_begun(struct scheduler *scheduler, uint64_t since);

#endif
