/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plan that `profinfer plan` has made where Python is: which handler runs at which offset of
 * which file, what the engine's structs look like, and what the START frame says of both. Whatever
 * is wrong with it ends the process with EXIT_PLAN, naming the place in the file.
 */
#ifndef PROFINFER_PLAN_H
#define PROFINFER_PLAN_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLAN_FORMAT 1
#define CODE_MAX 16

enum level { LEVEL_TOKEN, LEVEL_GRAPH, LEVEL_OPERATOR, LEVEL_BARRIER, LEVEL_COUNT };
extern const char *const level_names[LEVEL_COUNT];

/* A file of the target that the plan was made from. */
struct plan_object {
  const char *name;     /* without its folder */
  const char *build_id; /* "" where it has none: then size and sha256 tell */
  const char *sha256;
  const char *backend; /* what the file's name says of its backend, "" for nothing */
  uint64_t size;
};

struct plan_probe {
  const char *handler;
  const char *symbol; /* for messages */
  uint64_t offset;    /* in the file */
  size_t object;
  enum level level;
  bool at_return;
  bool required;
  unsigned char code[CODE_MAX]; /* what the file holds there */
  size_t code_size;             /* 0: the plan does not say */
};

/* A function that tells a backend's name. */
struct plan_backend {
  size_t object;
  uint64_t vaddr;
  const char *name;
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
  size_t object_count, probe_count, backend_count;
};

struct plan plan_read(const char *path);

/* A parameter of the handlers; EXIT_PLAN when the plan lacks it. */
int32_t plan_parameter(const struct plan *plan, const char *name);

/* The events that are to be counted, and in `notes` what the plan says of others; 0 and no notes
 * when none were asked for. */
json_object *plan_counters(const struct plan *plan, json_object **notes);

/* The level of that name, or LEVEL_COUNT. */
enum level level_named(const char *name);

#endif
