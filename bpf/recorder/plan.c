/* SPDX-License-Identifier: Apache-2.0 */
#include "plan.h"
#include "failure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_SIZE (4u << 20)
#define MAX_ITEMS 4096
#define ARGUMENTS_MAX 6 /* that are passed in registers */
#define FIELD_MAX 4096

const char *const level_names[LEVEL_COUNT] = {"token", "graph", "operator", "barrier"};

static const char *reading; /* the file, for messages */

enum level level_named(const char *name) {
  int level = 0;
  while (level < LEVEL_COUNT && strcmp(level_names[level], name))
    level++;
  return level;
}

static _Noreturn void bad(const char *where, const char *name, const char *what) {
  fail(EXIT_PLAN, "make it again with profinfer plan", "%s: %s%s%s %s", reading, where,
       *where ? "." : "", name, what);
}

static json_object *member(json_object *of, const char *where, const char *name, json_type type) {
  json_object *found = 0;
  if (!json_object_object_get_ex(of, name, &found) || !json_object_is_type(found, type))
    bad(where, name, text("is missing or no %s", json_type_to_name(type)));
  return found;
}

static uint64_t number(json_object *of, const char *where, const char *name, uint64_t limit) {
  int64_t value = json_object_get_int64(member(of, where, name, json_type_int));
  if (value < 0 || (uint64_t)value > limit)
    bad(where, name, "is out of range");
  return value;
}

static const char *string(json_object *of, const char *where, const char *name) {
  return json_object_get_string(member(of, where, name, json_type_string));
}

static const char *string_or_empty(json_object *of, const char *name) {
  json_object *found = 0;
  bool is_there = json_object_object_get_ex(of, name, &found);
  return is_there && json_object_is_type(found, json_type_string) ? json_object_get_string(found)
                                                                  : "";
}

static bool flag(json_object *of, const char *name, bool otherwise) {
  json_object *found = 0;
  return json_object_object_get_ex(of, name, &found) ? json_object_get_boolean(found) : otherwise;
}

static size_t list(json_object *root, const char *name, json_object **found) {
  *found = member(root, "", name, json_type_array);
  size_t count = json_object_array_length(*found);
  if (count > MAX_ITEMS)
    bad("", name, "has too many entries");
  return count;
}

static json_object *item(json_object *of, const char *name, size_t at, char where[64]) {
  json_object *found = json_object_array_get_idx(of, at);
  snprintf(where, 64, "%s[%zu]", name, at);
  if (!json_object_is_type(found, json_type_object))
    bad("", where, "is no object");
  return found;
}

static char *read_file(const char *path, int fd, size_t *length) {
  if (fd < 0)
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    fail(EXIT_PLAN, "profinfer plan makes one", "cannot read the plan %s: %s", path,
         strerror(errno));
  char *data = 0;
  ssize_t got = 1;
  for (*length = 0; got > 0 && *length <= MAX_SIZE; *length += got) {
    data = realloc(data, *length + 65536);
    if (!data)
      fail(EXIT_KERNEL, "", "out of memory");
    got = read(fd, data + *length, 65536);
    if (got < 0)
      fail(EXIT_PLAN, "", "cannot read the plan %s: %s", path, strerror(errno));
  }
  close(fd);
  if (*length > MAX_SIZE)
    fail(EXIT_PLAN, "", "%s is too large to be a plan", path);
  return data;
}

static json_object *parse(const char *path, int fd) {
  size_t length;
  char *data = read_file(path, fd, &length);
  json_tokener *tokener = json_tokener_new();
  if (!tokener)
    fail(EXIT_KERNEL, "", "out of memory");
  json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
  json_object *root = json_tokener_parse_ex(tokener, data, length);
  enum json_tokener_error error = json_tokener_get_error(tokener);
  if (!root || error != json_tokener_success || !json_object_is_type(root, json_type_object))
    fail(EXIT_PLAN, "profinfer plan makes one", "%s is not a plan: %s", path,
         error == json_tokener_success ? "no JSON object"
                                       : text("%s at byte %zu", json_tokener_error_desc(error),
                                              json_tokener_get_parse_end(tokener)));
  json_tokener_free(tokener);
  free(data);
  return root;
}

static void read_objects(struct plan *plan) {
  char where[64];
  json_object *all;
  plan->object_count = list(plan->root, "objects", &all);
  plan->objects = allocate(plan->object_count, sizeof(*plan->objects));
  for (size_t i = 0; i < plan->object_count; i++) {
    json_object *from = item(all, "objects", i, where);
    plan->objects[i] = (struct plan_object){
        .name = string(from, where, "name"),
        .build_id = string(from, where, "build_id"),
        .sha256 = string_or_empty(from, "sha256"),
        .backend = string_or_empty(from, "backend"),
        .size = number(from, where, "size", INT64_MAX),
        .device = string_or_empty(from, "device"),
    };
    if (*plan->objects[i].device)
      plan->objects[i].inode = number(from, where, "inode", INT64_MAX);
    else if (!*plan->objects[i].build_id && strlen(plan->objects[i].sha256) != 64)
      bad(where, "sha256", "is needed where there is no build id");
  }
}

static size_t read_code(const char *hex, unsigned char code[CODE_MAX], const char *where) {
  size_t size = strlen(hex) / 2;
  if (strlen(hex) % 2 || size > CODE_MAX || strspn(hex, "0123456789abcdef") != 2 * size)
    bad(where, "code", "is no hex of at most 16 bytes");
  for (size_t i = 0; i < size; i++)
    sscanf(hex + 2 * i, "%2hhx", &code[i]);
  return size;
}

static void read_probes(struct plan *plan) {
  char where[64];
  json_object *all;
  plan->probe_count = list(plan->root, "probes", &all);
  plan->probes = allocate(plan->probe_count, sizeof(*plan->probes));
  for (size_t i = 0; i < plan->probe_count; i++) {
    json_object *from = item(all, "probes", i, where);
    struct plan_probe *probe = &plan->probes[i];
    *probe = (struct plan_probe){
        .handler = string(from, where, "handler"),
        .symbol = string(from, where, "symbol"),
        .offset = number(from, where, "offset", INT64_MAX),
        .object = number(from, where, "object", INT64_MAX),
        .level = level_named(string(from, where, "level")),
        .at_return = flag(from, "at_return", false),
        .required = flag(from, "required", true),
        .by_stub = !strcmp(string_or_empty(from, "via"), "recording"),
    };
    probe->code_size = read_code(string_or_empty(from, "code"), probe->code, where);
    if (probe->object >= plan->object_count)
      bad(where, "object", "is none of the objects");
    if (probe->level == LEVEL_COUNT)
      bad(where, "level", "is none that this recorder knows");
  }
  if (!plan->probe_count)
    bad("", "probes", "is empty");
}

static void read_backends(struct plan *plan) {
  char where[64];
  json_object *all;
  plan->backend_count = list(plan->root, "backends", &all);
  plan->backends = allocate(plan->backend_count, sizeof(*plan->backends));
  for (size_t i = 0; i < plan->backend_count; i++) {
    json_object *from = item(all, "backends", i, where);
    plan->backends[i] = (struct plan_backend){
        .object = number(from, where, "object", INT64_MAX),
        .vaddr = number(from, where, "vaddr", INT64_MAX),
        .name = string(from, where, "name"),
    };
    if (plan->backends[i].object >= plan->object_count)
      bad(where, "object", "is none of the objects");
  }
}

static void read_calls(struct plan *plan) {
  char where[64];
  json_object *all;
  if (!json_object_object_get_ex(plan->root, "calls", &all))
    return;
  plan->call_count = list(plan->root, "calls", &all);
  plan->calls = allocate(plan->call_count, sizeof(*plan->calls));
  for (size_t i = 0; i < plan->call_count; i++) {
    json_object *from = item(all, "calls", i, where);
    plan->calls[i] = (struct plan_call){
        .name = string(from, where, "name"),
        .path = string(from, where, "path"),
        .address = number(from, where, "address", INT64_MAX),
    };
    json_object *values = member(from, where, "values", json_type_array);
    size_t count = json_object_array_length(values);
    if (count > CALL_VALUES)
      bad(where, "values", "has too many entries");
    for (size_t j = 0; j < count; j++)
      plan->calls[i].values[j] = json_object_get_uint64(json_object_array_get_idx(values, j));
    plan->calls[i].value_count = count;
  }
}

/* Which argument, or where a field stands. */
static int32_t role(json_object *of, const char *where, const char *name, int least, int most) {
  int64_t value = json_object_get_int64(member(of, where, name, json_type_int));
  if (value < least || value > most)
    bad(where, name, "is out of range");
  return value;
}

/* Plans that were made before engines were described by adapters have none. */
static void read_steps(struct plan *plan) {
  char where[64];
  json_object *all;
  if (!json_object_object_get_ex(plan->root, "steps", &all))
    return;
  plan->step_count = list(plan->root, "steps", &all);
  if (plan->step_count > STEPS_MAX)
    bad("", "steps", "has too many entries");
  for (size_t i = 0; i < plan->step_count; i++) {
    json_object *from = item(all, "steps", i, where);
    plan->steps[i] = (struct step){
        .context = role(from, where, "context", 0, ARGUMENTS_MAX),
        .batch = role(from, where, "batch", 0, ARGUMENTS_MAX),
        .tokens = role(from, where, "tokens", 0, ARGUMENTS_MAX),
        .position = role(from, where, "position", 0, ARGUMENTS_MAX),
        .n_tokens = role(from, where, "n_tokens", -1, FIELD_MAX),
        .pos = role(from, where, "pos", -1, FIELD_MAX),
        .seq_id = role(from, where, "seq_id", -1, FIELD_MAX),
        .output = role(from, where, "output", -1, FIELD_MAX),
    };
    const struct step *step = &plan->steps[i];
    if (step->batch && (step->n_tokens < 0 || step->pos < 0 || step->seq_id < 0))
      bad(where, "batch", "has fields that are nowhere");
  }
}

/* Likewise. */
static void read_interface(struct plan *plan) {
  json_object *all;
  if (!json_object_object_get_ex(plan->root, "interface", &all))
    return;
  plan->interface_count = list(plan->root, "interface", &all);
  if (plan->interface_count > CALLS_MAX)
    bad("", "interface", "has too many entries");
  if (json_object_object_get_ex(plan->root, "at_entry", &all))
    plan->at_entry = number(plan->root, "", "at_entry", INT32_MAX);
  plan->call_parts = plan->interface_count;
  if (json_object_object_get_ex(plan->root, "parts", &all))
    plan->call_parts = number(plan->root, "", "parts", plan->interface_count);
}

/* Stubs that record, by number. */
static void read_stubs(struct plan *plan) {
  json_object *all;
  if (!json_object_object_get_ex(plan->root, "stubs", &all))
    return;
  plan->stub_page = number(plan->root, "", "stub_page", INT64_MAX);
  plan->stub_count = list(plan->root, "stubs", &all);
  for (size_t i = 0; i < plan->stub_count; i++) {
    int64_t stub = json_object_get_int64(json_object_array_get_idx(all, i));
    if (stub < 0 || stub >= STUBS)
      bad("", text("stubs[%zu]", i), "is out of range");
    plan->stubs[stub] = true;
  }
}

static void read_notes(struct plan *plan) {
  if (!json_object_object_get_ex(plan->root, "notes", &plan->notes))
    return;
  size_t count = list(plan->root, "notes", &plan->notes);
  for (size_t i = 0; i < count; i++)
    if (!json_object_is_type(json_object_array_get_idx(plan->notes, i), json_type_string))
      bad("", text("notes[%zu]", i), "is no string");
}

struct plan plan_read(const char *path, int fd) {
  reading = path;
  struct plan plan = {.path = path, .root = parse(path, fd)};
  uint64_t format = number(plan.root, "", "format", INT64_MAX);
  if (format != PLAN_FORMAT)
    fail(EXIT_PLAN, "use profinfer plan and profinfer-recorder of one version",
         "%s is a plan of format %llu; this recorder reads format %d", path,
         (unsigned long long)format, PLAN_FORMAT);
  plan.machine = string(plan.root, "", "machine");
  plan.level = level_named(string(plan.root, "", "level"));
  if (plan.level == LEVEL_COUNT)
    bad("", "level", "is none that this recorder knows");
  member(plan.root, "", "parameters", json_type_object);
  plan.start = member(plan.root, "", "start", json_type_object);
  member(plan.start, "start", "layout", json_type_object);
  read_objects(&plan);
  read_probes(&plan);
  read_backends(&plan);
  read_calls(&plan);
  read_steps(&plan);
  read_interface(&plan);
  read_stubs(&plan);
  read_notes(&plan);
  return plan;
}

void plan_close(struct plan *plan) {
  json_object_put(plan->root);
  free(plan->objects);
  free(plan->probes);
  free(plan->backends);
  free(plan->calls);
  *plan = (struct plan){0};
}

int32_t plan_parameter(const struct plan *plan, const char *name) {
  json_object *all = member(plan->root, "", "parameters", json_type_object);
  int64_t value = json_object_get_int64(member(all, "parameters", name, json_type_int));
  if (value < INT32_MIN || value > INT32_MAX)
    bad("parameters", name, "is out of range");
  return value;
}

json_object *plan_counters(const struct plan *plan, json_object **notes) {
  char where[64];
  json_object *all = 0;
  *notes = 0;
  if (!json_object_object_get_ex(plan->root, "counters", &all))
    return 0;
  all = member(plan->root, "", "counters", json_type_object);
  json_object *events = member(all, "counters", "events", json_type_array);
  for (size_t i = 0; i < json_object_array_length(events); i++)
    string(item(events, "counters.events", i, where), where, "name");
  *notes = json_object_get(member(all, "counters", "notes", json_type_array));
  return events;
}
