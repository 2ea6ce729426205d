/* SPDX-License-Identifier: Apache-2.0 */
#include "description.h"
#include "engine.h"
#include "experiments.h"
#include "ggml.h"
#include "graph_uid.h"
#include "loading.h"
#include "peek.h"
#include "sieve.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BACKEND_SIZE 256
#define MAX_DEVICES 64

static const char *folder;
static void *cpu;

void backends_begin(const char *named) {
  static char home[PATH_MAX];
  const char *path = engine_home("ggml_init");
  bool is_by_folder = engine_has("ggml_backend_load_all_from_path");
  if (path)
    snprintf(home, sizeof(home), "%.*s.", (int)(loading_name(path) - path), path);
  folder = named ? named : home;
  /* Old versions look in the working directory. */
  if (chdir(folder) && !is_by_folder && engine_has("ggml_backend_load_all"))
    note("backend: its libraries' folder cannot be entered: %s", strerror(errno));
  /* The tables that it computes, all copies of this process then have. */
  if (engine_has("ggml_backend_cpu_init"))
    cpu = FUNCTION(void *, "ggml_backend_cpu_init", void)();
}

void backends_load(void) {
  if (engine_has("ggml_backend_load_all_from_path"))
    FUNCTION(void, "ggml_backend_load_all_from_path", const char *)(folder);
  else if (engine_has("ggml_backend_load_all"))
    FUNCTION(void, "ggml_backend_load_all", void)();
}

/* A CPU backend; builds with loadable backends look for one next to their libraries. */
static void find_cpu(void) {
  if (!engine_has("ggml_backend_cpu_init")) {
    backends_load();
    size_t count = FUNCTION(size_t, "ggml_backend_dev_count", void)();
    for (size_t i = 0; i < count && i < MAX_DEVICES && !cpu; i++) {
      char name[NAME_SIZE];
      void *device = FUNCTION(void *, "ggml_backend_dev_get", size_t)(i);
      uint64_t address = FUNCTION(uint64_t, "ggml_backend_dev_name", void *)(device);
      if (peek_text(address, name, sizeof(name)) && !strcmp(name, "CPU"))
        cpu = FUNCTION(void *, "ggml_backend_dev_init", void *, void *)(device, 0);
    }
  }
  if (!cpu)
    unfit("there is no CPU backend");
}

/* A counterfeit backend's functions: each says which it is. */
static struct sieve called;
static char counterfeit_name[] = "counterfeit";

static uint64_t call(unsigned number) {
  called.is_out[8 * number] = false;
  return (uint64_t)counterfeit_name;
}

#define METHOD(n)                                                                                  \
  static uint64_t method_##n(void) { return call(n); }
#define EIGHT(m, n) m(n##0) m(n##1) m(n##2) m(n##3) m(n##4) m(n##5) m(n##6) m(n##7)
/* Octal, so that the names are numbers. */
#define ALL(m) EIGHT(m, 00) EIGHT(m, 01) EIGHT(m, 02) EIGHT(m, 03)
#define METHOD_NAME(n) method_##n,
ALL(METHOD)

/* Which function pointer of a backend a library function calls: try it on a counterfeit. */
static long find_called(const char *function) {
  uint64_t (*methods[])(void) = {ALL(METHOD_NAME)};
  char what[128];
  _Static_assert(sizeof(methods) == BACKEND_SIZE, "one for every pointer");
  if (!engine_has(function)) {
    note("backend: no %s", function);
    return ABSENT;
  }
  void *graph = ggml_chain(3, 0);
  sieve_begin(&called, BACKEND_SIZE, 8);
  memset(called.is_out, true, sizeof(called.is_out));
  FUNCTION(void *, function, void *, void *)(methods, graph);
  snprintf(what, sizeof(what), "backend function called by %s", function);
  return sieve_only(&called, what);
}

static long find_pointer(const char *raw, const char *what, uint64_t value) {
  struct sieve sieve;
  sieve_begin(&sieve, BACKEND_SIZE, 8);
  sieve_integer(&sieve, raw, value);
  return sieve_only(&sieve, what);
}

static void describe_cpu(void) {
  static const char device[] = "ggml_backend_get_device";
  struct fields *fields = &found->backend;
  char raw[BACKEND_SIZE];
  peek_all((uint64_t)cpu, raw, sizeof(raw));
  uint64_t guid = FUNCTION(uint64_t, "ggml_backend_guid", void *)(cpu);
  fields_set(fields, "guid", find_pointer(raw, "backend.guid", guid));
  peek_all(guid, found->guid, GUID_SIZE);
  if (engine_has(device)) {
    uint64_t its = FUNCTION(uint64_t, device, void *)(cpu);
    fields_set(fields, "device", find_pointer(raw, "backend.device", its));
  }
  fields_set(fields, "get_name", find_called("ggml_backend_name"));
  fields_set(fields, "graph_compute", find_called("ggml_backend_graph_compute_async"));
}

static long graph_compute;
static void find_uid(void) { fields_set(&found->cgraph, "uid", graph_uid(cpu, graph_compute)); }

void describe_backend(void) {
  if (!attempt_noted("backend", find_cpu))
    return;
  found->is_backend_tried = true;
  found->has_backend = attempt_noted("backend", describe_cpu);
  graph_compute = fields_get(&found->backend, "graph_compute");
  if (found->has_backend && graph_compute != ABSENT)
    if (!attempt_noted("cgraph.uid", find_uid))
      fields_set(&found->cgraph, "uid", ABSENT);
}
