/* SPDX-License-Identifier: Apache-2.0 */
#include "programs.h"
#include "../parameters.h"
#include "capture.h"
#include "embedded.h"
#include "failure.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *const chain[] = {"chain_hash", "chain_emit", "chain_tokens", "chain_experts"};
#define CHAIN_EXPERTS 3
static const char *const counting[] = {"count_switch", "count_exit"};

/* Threads whose counts are kept. */
#define COUNTED_THREADS 4096

#define CHAIN_COUNT (sizeof(chain) / sizeof(*chain))

/* The end of what libbpf complained of, the verifier's log with it: said only when something
 * fails. */
static char complaints[2048];

static int keep_complaints(enum libbpf_print_level level, const char *format, va_list arguments) {
  char *said;
  if (level != LIBBPF_WARN || vasprintf(&said, format, arguments) < 0)
    return 0;
  size_t room = sizeof(complaints) - 1, kept = strlen(complaints), length = strlen(said);
  size_t from = length > room ? length - room : 0;
  size_t dropped = kept + length - from > room ? kept + length - from - room : 0;
  memmove(complaints, complaints + dropped, kept - dropped + 1);
  strcpy(complaints + kept - dropped, said + from);
  free(said);
  return 0;
}

static _Noreturn void refused(const char *what, int error) {
  if (error == EPERM) /* EACCES is the verifier's */
    fail(EXIT_PRIVILEGE, "run it as root", "not allowed to %s: %s", what, strerror(error));
  fputs(complaints, stderr);
  fail(EXIT_KERNEL, "--transport perf needs less of a kernel than ring does",
       "this kernel does not %s: %s", what, strerror(error));
}

unsigned programs_cpus(void) {
  char line[256] = "";
  FILE *file = fopen("/sys/devices/system/cpu/possible", "re");
  if (!file || !fgets(line, sizeof(line), file))
    fail(EXIT_KERNEL, "mount /sys", "cannot read /sys/devices/system/cpu/possible");
  fclose(file);
  /* "0-3,8-11": the last number is the highest. */
  const char *last = line + strcspn(line, "\n");
  while (last > line && strchr("0123456789", last[-1]))
    last--;
  return atoi(last) + 1;
}

static struct bpf_object *open_object(const struct program_options *options, bool by_perf) {
  LIBBPF_OPTS(bpf_object_open_opts, how, .object_name = "profinfer");
  struct bpf_object *object;
  if (options->object) {
    object = bpf_object__open_file(options->object, &how);
  } else {
    size_t size;
    void *embedded = embedded_object(by_perf, &size); /* libbpf reads in it until it is loaded */
    object = bpf_object__open_mem(embedded, size, &how);
  }
  if (!object) {
    fputs(complaints, stderr);
    fail(EXIT_KERNEL, "", "cannot read %s: %s",
         options->object ? options->object : "the embedded BPF object", strerror(errno));
  }
  return object;
}

/* Where a parameter stands in the object's read-only data; -1 for nowhere. */
static int offset_of(const struct btf *btf, const char *name) {
  int id = btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC);
  if (id < 0)
    return -1;
  const struct btf_type *section = btf__type_by_id(btf, id);
  const struct btf_var_secinfo *variable = btf_var_secinfos(section);
  for (int i = 0; i < btf_vlen(section); i++) {
    const struct btf_type *type = btf__type_by_id(btf, variable[i].type);
    if (!strcmp(btf__name_by_offset(btf, type->name_off), name))
      return variable[i].offset;
  }
  return -1;
}

static struct bpf_map *read_only_data(struct bpf_object *object) {
  struct bpf_map *map;
  bpf_object__for_each_map(map, object) {
    const char *name = bpf_map__name(map);
    size_t length = strlen(name);
    if (bpf_map__is_internal(map) && length >= 7 && !strcmp(name + length - 7, ".rodata"))
      return map;
  }
  fail(EXIT_KERNEL, "", "the BPF object has no parameters");
}

static void set_parameter(struct bpf_object *object, const char *name, int32_t value) {
  size_t size;
  struct bpf_map *map = read_only_data(object);
  char *data = (char *)bpf_map__initial_value(map, &size);
  int offset = offset_of(bpf_object__btf(object), name);
  if (!data || offset < 0 || offset + sizeof(value) > size)
    fail(EXIT_KERNEL, "use an object of the same version", "the BPF object has no parameter %s",
         name);
  memcpy(data + offset, &value, sizeof(value));
}

static int32_t binary_logarithm(size_t power) { return 63 - __builtin_clzll(power); }

/* Every parameter of bpf/parameters.h: our own, and the engine's layout from the plan. */
static void set_parameters(struct bpf_object *object, const struct program_options *options,
                           const struct plan *plan, bool has_boot_clock) {
#define FROM_PLAN(name) set_parameter(object, #name, plan_parameter(plan, #name));
  LAYOUT_PARAMETERS(FROM_PLAN)
#undef FROM_PLAN
  size_t records = options->ring_size / sizeof(struct record);
  set_parameter(object, "RING_SHIFT", binary_logarithm(records));
  set_parameter(object, "BOOT_CLOCK", has_boot_clock);
  const struct counters *counters = options->counters;
  set_parameter(object, "COUNTERS", counters->count);
  set_parameter(object, "COUNTER_LEADERS", counters->leaders);
  set_parameter(object, "COUNTER_ALWAYS", counters->always);
  set_parameter(object, "COUNTER_RECORDS", counters->records);
  set_parameter(object, "TASK_NVCSW", -1); /* the kernel's types are too large for this process */
  set_parameter(object, "CPU_COUNT", counters->cpus);
  set_parameter(object, "EXPERTS", options->experts);
  set_parameter(object, "EXPERT_WEIGHTS", options->expert_weights);
  if (plan_parameter(plan, "T_SIZE") > TENSOR_MAX)
    fail(EXIT_PLAN, "", "the engine's tensors have %d bytes; there is room for %d",
         plan_parameter(plan, "T_SIZE"), TENSOR_MAX);
}

static void set_size(struct bpf_object *object, const char *name, size_t entries) {
  struct bpf_map *map = bpf_object__find_map_by_name(object, name);
  if (!map || bpf_map__set_max_entries(map, entries))
    fail(EXIT_KERNEL, "use an object of the same version", "the BPF object has no map %s", name);
}

static bool is_needed(const struct bpf_program *program, const struct plan *plan,
                      const struct program_options *options) {
  const char *name = bpf_program__name(program);
  for (size_t i = 0; options->counters->count && i < sizeof(counting) / sizeof(*counting); i++)
    if (!strcmp(name, counting[i]))
      return true;
  for (size_t i = 0; i < CHAIN_COUNT; i++)
    if (!strcmp(name, chain[i]))
      return i != CHAIN_EXPERTS || options->experts;
  for (size_t i = 0; i < plan->probe_count; i++)
    if (plan->probes[i].level <= options->level && !strcmp(name, plan->probes[i].handler))
      return true;
  return false;
}

static void fill_chain(const struct programs *programs, const struct program_options *options) {
  int map = programs_map(programs, "chain");
  for (__u32 i = 0; i < CHAIN_COUNT; i++) {
    if (i == CHAIN_EXPERTS && !options->experts)
      continue;
    int fd = bpf_program__fd(programs_find(programs, chain[i]));
    if (bpf_map_update_elem(map, &i, &fd, BPF_ANY))
      refused("chain the BPF programs", errno);
  }
}

struct programs programs_load(const struct program_options *options,
                              const struct features *features, const struct plan *plan) {
  bool by_perf = features->transport == TRANSPORT_BY_PERF;
  libbpf_set_print(keep_complaints);
  struct programs programs = {.features = *features, .cpus = programs_cpus()};
  struct bpf_object *object = programs.object = open_object(options, by_perf);
  set_parameters(object, options, plan, features->boot_clock);
  set_size(object, "ring_heads", programs.cpus);
  set_size(object, "loss_map", programs.cpus * KIND_COUNT);
  /* Tensors that are known: enough for ten graphs of large models, in a quarter of the memory. */
  set_size(object, "signatures", 32768);
  size_t counted = options->counters->count;
  set_size(object, "counter_events", counted ? counted * programs.cpus : 1);
  set_size(object, "counter_threads", counted ? COUNTED_THREADS : 1);
  if (!by_perf) {
    set_size(object, "ring_slots", programs.cpus * (options->ring_size / sizeof(struct record)));
    set_size(object, "structure_ring", options->structure_ring_size);
  } else {
    set_size(object, "record_events", programs.cpus);
    set_size(object, "structure_events", programs.cpus);
  }
  struct bpf_program *program;
  bpf_object__for_each_program(program, object) {
    bpf_program__set_autoload(program, is_needed(program, plan, options));
    if (features->multi && bpf_program__type(program) == BPF_PROG_TYPE_KPROBE)
      bpf_program__set_expected_attach_type(program, UPROBE_MULTI);
  }
  for (size_t i = 0; i < plan->probe_count; i++)
    programs_find(&programs, plan->probes[i].handler);
  if (bpf_object__load(object))
    refused("load the BPF programs", errno);
  fill_chain(&programs, options);
  return programs;
}

struct bpf_program *programs_find(const struct programs *programs, const char *name) {
  struct bpf_program *found = bpf_object__find_program_by_name(programs->object, name);
  if (!found)
    fail(EXIT_PLAN, "use profinfer plan and profinfer-recorder of one version",
         "this recorder has no handler %s", name);
  return found;
}

int programs_map(const struct programs *programs, const char *name) {
  int fd = bpf_object__find_map_fd_by_name(programs->object, name);
  if (fd < 0)
    fail(EXIT_KERNEL, "use an object of the same version", "the BPF object has no map %s", name);
  return fd;
}

struct rings programs_rings(const struct programs *programs,
                            const struct program_options *options) {
  int heads = programs_map(programs, "ring_heads");
  if (programs->features.transport == TRANSPORT_BY_RING)
    return ring_transport(heads, programs_map(programs, "ring_slots"),
                          programs_map(programs, "structure_ring"), programs->cpus,
                          options->ring_size, options->structure_ring_size);
  return perf_transport(heads, programs_map(programs, "record_events"),
                        programs_map(programs, "structure_events"), programs->cpus,
                        options->ring_size, options->structure_ring_size);
}

void programs_activate(const struct programs *programs, bool active) {
  struct control control = {.active = active};
  __u32 zero = 0;
  struct timespec monotonic;
  if (!programs->features.boot_clock) {
    clock_gettime(CLOCK_MONOTONIC, &monotonic);
    control.boot_offset = boot_ns() - (monotonic.tv_sec * 1000000000ull + monotonic.tv_nsec);
  }
  if (bpf_map_update_elem(programs_map(programs, "control_map"), &zero, &control, BPF_ANY))
    refused("switch the handlers on", errno);
}

void programs_losses(const struct programs *programs, struct loss *losses) {
  __u32 total = programs->cpus * KIND_COUNT, count = total, position;
  static __u32 *keys;
  if (!keys)
    keys = allocate(total, sizeof(*keys));
  int map = programs_map(programs, "loss_map");
  /* ENOENT is how the kernel says that there is nothing after these. */
  if (!bpf_map_lookup_batch(map, 0, &position, keys, losses, &count, 0) || errno == ENOENT)
    return;
  for (__u32 i = 0; i < total; i++) /* a kernel before 5.6 */
    if (bpf_map_lookup_elem(map, &i, &losses[i]))
      refused("read the losses", errno);
}
