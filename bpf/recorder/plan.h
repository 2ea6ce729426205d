/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plan that `profinfer plan` has made where Python is: which handler runs at which offset of
 * which file, what the engine's structs look like, and what the START frame says of both. Whatever
 * is wrong with it ends the process with EXIT_PLAN, naming the place in the file.
 */
#ifndef PROFINFER_PLAN_H
#define PROFINFER_PLAN_H

#include <json-c/json.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../audit/rings.h"
#include "../steps.h"

#define PLAN_FORMAT 1
#define CODE_MAX 16
#define CALL_VALUES 4

enum level { LEVEL_TOKEN, LEVEL_GRAPH, LEVEL_OPERATOR, LEVEL_BARRIER, LEVEL_COUNT };
extern const char *const level_names[LEVEL_COUNT];

/* A file of the target that the plan was made from. */
struct plan_object {
  const char *name;     /* without its folder */
  const char *build_id; /* "" where it has none: then size and sha256 tell */
  const char *sha256;
  const char *backend; /* what the file's name says of its backend, "" for nothing */
  uint64_t size;
  const char *device; /* of the very file in a running process, as /proc/PID/maps has it; "": the
                         file is known by the above */
  uint64_t inode;
};

struct plan_probe {
  const char *handler;
  const char *symbol; /* for messages */
  uint64_t offset;    /* in the file */
  size_t object;
  enum level level;
  bool at_return;
  bool required;
  bool by_stub;                 /* nothing is attached: a stub there writes the records itself */
  unsigned char code[CODE_MAX]; /* what the file holds there */
  size_t code_size;             /* 0: the plan does not say */
};

/* A function that tells a backend's name. */
struct plan_backend {
  size_t object;
  uint64_t vaddr;
  const char *name;
};

/* A word in the target's memory by which calls of a function pass a stub of ours. */
struct plan_call {
  const char *name; /* of the function */
  const char *path; /* of the file with the word */
  uint64_t address;
  uint64_t values[CALL_VALUES]; /* it may hold one of these: the stub, or what is not bound yet */
  size_t value_count;
};

struct plan {
  const char *path;
  json_object *root; /* owns every string */
  json_object *start;
  const char *machine;
  enum level level;
  struct plan_object *objects;
  struct plan_probe *probes;
  struct plan_backend *backends;
  struct plan_call *calls;
  size_t object_count, probe_count, backend_count, call_count;
  struct step steps[STEPS_MAX]; /* by number */
  size_t step_count;
  size_t interface_count; /* ways in which the interface is called, by number */
  uint32_t at_entry;      /* a bit for each that is told when it begins */
  uint32_t call_parts;    /* from this number on they are parts of a step */
  uint64_t stub_page;     /* where stubs are switched that record (audit/rings.h) */
  bool stubs[STUBS];      /* which ones are to */
  size_t stub_count;
  json_object *notes; /* what was probed in the place of something else; 0: nothing */
};

/* The plan in a file, or, where `fd` is none of -1, in what that descriptor is of. */
struct plan plan_read(const char *path, int fd);

/* Lets go of it. */
void plan_close(struct plan *plan);

/* A parameter of the handlers; EXIT_PLAN when the plan lacks it. */
int32_t plan_parameter(const struct plan *plan, const char *name);

/* The events that are to be counted, and in `notes` what the plan says of others; 0 and no notes
 * when none were asked for. */
json_object *plan_counters(const struct plan *plan, json_object **notes);

/* The level of that name, or LEVEL_COUNT. */
enum level level_named(const char *name);

#endif
