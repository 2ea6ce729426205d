/* SPDX-License-Identifier: Apache-2.0 */
#include "handlers.h"
#include "../parameters.h"
#include "capture.h"
#include "failure.h"
#include "kernel_types.h"
#include "pid_namespace.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* In the order of enum chain (bpf/handlers.h): programs that call each other, or what takes their
 * place where the kernel has bpf_loop. */
enum { CHAIN_EXPERTS = 3, CHAIN_STEP, CHAIN_COUNT };
static const char *const by_calls[CHAIN_COUNT] = {"chain_hash", "chain_emit", "chain_tokens",
                                                  "chain_experts", "chain_step"};
static const char *const by_loops[CHAIN_COUNT] = {"loop_graph", 0, "loop_tokens", "chain_experts",
                                                  "chain_step"};

/* Threads whose counts are kept. */
#define COUNTED_THREADS 4096
/* Tensors that are known: enough for ten graphs of large models. */
#define SIGNATURES 32768

unsigned handlers_cpus(void) {
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

static bool is_chained(const char *const *chain, size_t index, const struct options *options,
                       const struct plan *plan) {
  return chain[index] && (index != CHAIN_EXPERTS || options->experts) &&
         (index != CHAIN_STEP || plan->step_count);
}

/* What a plan may have probes for. */
static const struct {
  const char *name;
  enum level level;
} all_handlers[] = {
    {"on_ubatch", LEVEL_TOKEN},        {"on_ubatch_return", LEVEL_TOKEN},
    {"on_backend_graph", LEVEL_GRAPH}, {"on_backend_graph_return", LEVEL_GRAPH},
    {"on_cpu_graph", LEVEL_GRAPH},     {"on_cpu_graph_return", LEVEL_GRAPH},
    {"on_rebuild", LEVEL_GRAPH},       {"on_operator", LEVEL_OPERATOR},
    {"on_fused", LEVEL_OPERATOR},      {"on_barrier", LEVEL_BARRIER},
};

static void name_programs(struct source *source, const char *const *chain,
                          const struct options *options, enum level level, const struct plan *plan,
                          const struct counters *counters) {
  for (size_t i = 0; i < plan->probe_count; i++)
    if (plan->probes[i].level <= level)
      source_program(source, plan->probes[i].handler, AT_UPROBE);
  /* The plan of a process may be followed by others, for what it loads later. */
  for (size_t i = 0; options->plan_fd >= 0 && i < sizeof(all_handlers) / sizeof(*all_handlers); i++)
    if (all_handlers[i].level <= level)
      source_program(source, all_handlers[i].name, AT_UPROBE);
  for (size_t i = 0; options->plan_fd >= 0 && i < plan->step_count; i++)
    source_program(source, text("on_step_%zu", i), AT_UPROBE);
  for (size_t i = 0; options->plan_fd >= 0 && i < plan->interface_count; i++)
    source_program(source, text("on_call_%zu", i), AT_UPROBE);
  if (options->plan_fd >= 0 && plan->interface_count)
    source_program(source, "on_call_return", AT_UPROBE);
  for (size_t i = 0; i < CHAIN_COUNT; i++)
    if (is_chained(chain, i, options, plan))
      source_program(source, chain[i], AT_UPROBE);
  if (counters->count) {
    source_program(source, "count_switch", AT_RAW_TRACEPOINT);
    source_program(source, "count_exit", AT_RAW_TRACEPOINT);
  }
}

static void name_maps(struct source *source, const struct counters *counters) {
  static const char *const always[] = {"ring_heads", "control_map", "loss_map", "chain", "steps"};
  for (size_t i = 0; i < sizeof(always) / sizeof(*always); i++)
    source_map(source, always[i]);
  source_map(source, source->by_perf ? "record_events" : "ring_slots");
  source_map(source, source->by_perf ? "structure_events" : "structure_ring");
  if (counters->count)
    source_map(source, "counter_events");
}

static int32_t binary_logarithm(size_t power) { return 63 - __builtin_clzll(power); }

static size_t ring_records(const struct options *options) {
  return options->ring_size / sizeof(struct record);
}

/* Every parameter of bpf/parameters.h but memory's: our own, and the engine's layout. */
static void set_parameters(struct source *source, const struct options *options,
                           const struct plan *plan, const struct counters *counters,
                           bool has_boot_clock) {
#define FROM_PLAN(name) source_parameter(source, #name, plan_parameter(plan, #name));
  LAYOUT_PARAMETERS(FROM_PLAN)
#undef FROM_PLAN
  if (plan_parameter(plan, "T_SIZE") > TENSOR_MAX)
    fail(EXIT_PLAN, "", "the engine's tensors have %d bytes; there is room for %d",
         plan_parameter(plan, "T_SIZE"), TENSOR_MAX);
  source_parameter(source, "RING_SHIFT", binary_logarithm(ring_records(options)));
  source_parameter(source, "BOOT_CLOCK", has_boot_clock);
  source_parameter(source, "COUNTERS", counters->count);
  source_parameter(source, "COUNTER_LEADERS", counters->leaders);
  source_parameter(source, "COUNTER_ALWAYS", counters->always);
  source_parameter(source, "COUNTER_RECORDS", counters->records);
  source_parameter(source, "TASK_NVCSW", counters->count ? kernel_switch_counts() : -1);
  source_parameter(source, "CALLS_AT_ENTRY", plan->at_entry);
  source_parameter(source, "CALL_PARTS", plan->call_parts);
  source_parameter(source, "CPU_COUNT", handlers_cpus());
  source_parameter(source, "EXPERTS", options->experts);
  source_parameter(source, "EXPERT_WEIGHTS", options->expert_weights);
  pids_parameters(source);
}

static void set_sizes(struct source *source, const struct options *options, unsigned cpus,
                      const struct counters *counters) {
  source_size(source, "ring_heads", cpus);
  source_size(source, "loss_map", cpus * KIND_COUNT);
  source_size(source, "signatures", SIGNATURES);
  source_size(source, "counter_events", counters->count ? counters->count * cpus : 1);
  source_size(source, "counter_threads", counters->count ? COUNTED_THREADS : 1);
  if (source->by_perf) {
    source_size(source, "record_events", cpus);
    source_size(source, "structure_events", cpus);
  } else {
    source_size(source, "ring_slots", cpus * ring_records(options));
    source_size(source, "structure_ring", options->structure_ring_size);
  }
}

static void fill_chain(const struct programs *programs, const char *const *chain,
                       const struct options *options, const struct plan *plan) {
  int map = programs_map(programs, "chain");
  for (__u32 i = 0; i < CHAIN_COUNT; i++) {
    if (!is_chained(chain, i, options, plan))
      continue;
    int fd = programs_find(programs, chain[i]);
    if (bpf_map_update_elem(map, &i, &fd, BPF_ANY))
      fail(EXIT_KERNEL, "", "cannot chain the BPF programs: %s", strerror(errno));
  }
}

/* Loads with one chain or the other; 0 and the reason where the kernel refuses and `why` is given.
 */
static struct programs *load(const char *const *chain, const struct options *options,
                             enum level level, const struct features *features,
                             const struct plan *plan, const struct counters *counters,
                             const struct memory *memory, char **why) {
  struct source source = {
      .name = "profinfer",
      .has_transport = true,
      .by_perf = features->transport == TRANSPORT_BY_PERF,
      .attach_type = features->multi ? UPROBE_MULTI : 0,
  };
  name_programs(&source, chain, options, level, plan, counters);
  name_maps(&source, counters);
  set_parameters(&source, options, plan, counters, features->boot_clock);
  set_sizes(&source, options, handlers_cpus(), counters);
  memory_source(memory, &source);
  struct programs *programs = programs_load(&source, why);
  if (programs)
    fill_chain(programs, chain, options, plan);
  return programs;
}

struct handlers handlers_load(const struct options *options, enum level level,
                              const struct features *features, const struct plan *plan,
                              const struct counters *counters, const struct memory *memory) {
  struct handlers handlers = {.features = *features, .cpus = handlers_cpus()};
  char *why;
  /* Some kernels have the helper, and refuse what it is used for here. */
  if (!options->by_bcc && libbpf_probe_bpf_helper(BPF_PROG_TYPE_KPROBE, BPF_FUNC_loop, 0) == 1)
    handlers.programs = load(by_loops, options, level, features, plan, counters, memory, &why);
  if (!handlers.programs)
    handlers.programs = load(by_calls, options, level, features, plan, counters, memory, 0);
  return handlers;
}

void handlers_tell_steps(const struct handlers *handlers, const struct plan *plan) {
  int map = programs_map(handlers->programs, "steps");
  for (__u32 i = 0; i < plan->step_count; i++)
    if (bpf_map_update_elem(map, &i, &plan->steps[i], BPF_ANY))
      fail(EXIT_KERNEL, "", "cannot tell the handlers how steps are called: %s", strerror(errno));
}

struct rings handlers_rings(const struct handlers *handlers, const struct options *options) {
  const struct programs *programs = handlers->programs;
  int heads = programs_map(programs, "ring_heads");
  if (handlers->features.transport == TRANSPORT_BY_RING)
    return ring_transport(heads, programs_map(programs, "ring_slots"),
                          programs_map(programs, "structure_ring"), handlers->cpus,
                          options->ring_size, options->structure_ring_size);
  return perf_transport(heads, programs_map(programs, "record_events"),
                        programs_map(programs, "structure_events"), handlers->cpus,
                        options->ring_size, options->structure_ring_size);
}

static void set_control(const struct handlers *handlers, struct control control) {
  __u32 zero = 0;
  struct timespec monotonic;
  if (!handlers->features.boot_clock) {
    clock_gettime(CLOCK_MONOTONIC, &monotonic);
    control.boot_offset = boot_ns() - (monotonic.tv_sec * 1000000000ull + monotonic.tv_nsec);
  }
  if (bpf_map_update_elem(programs_map(handlers->programs, "control_map"), &zero, &control,
                          BPF_ANY))
    fail(EXIT_KERNEL, "", "cannot switch the handlers on: %s", strerror(errno));
}

void handlers_activate(const struct handlers *handlers, const struct options *options) {
  set_control(handlers, (struct control){
                            .active = options->first_ubatch == 0,
                            .first_ubatch = options->first_ubatch,
                            .last_ubatch = options->last_ubatch,
                            .active_from = options->first_ubatch ? UINT64_MAX : 0,
                            .active_until = UINT64_MAX,
                        });
}

void handlers_deactivate(const struct handlers *handlers) {
  /* What they have counted stays. */
  struct control control = handlers_control(handlers);
  control.active = 0;
  control.last_ubatch = 0;
  set_control(handlers, control);
}

struct control handlers_control(const struct handlers *handlers) {
  struct control control = {0};
  __u32 zero = 0;
  if (bpf_map_lookup_elem(programs_map(handlers->programs, "control_map"), &zero, &control))
    fail(EXIT_KERNEL, "", "cannot read what the handlers count: %s", strerror(errno));
  return control;
}

void handlers_losses(const struct handlers *handlers, struct loss *losses) {
  __u32 total = handlers->cpus * KIND_COUNT, count = total, position;
  static __u32 *keys;
  if (!keys)
    keys = allocate(total, sizeof(*keys));
  int map = programs_map(handlers->programs, "loss_map");
  /* ENOENT is how the kernel says that there is nothing after these. */
  if (!bpf_map_lookup_batch(map, 0, &position, keys, losses, &count, 0) || errno == ENOENT)
    return;
  for (__u32 i = 0; i < total; i++) /* a kernel before 5.6 */
    if (bpf_map_lookup_elem(map, &i, &losses[i]))
      fail(EXIT_KERNEL, "", "cannot read the losses: %s", strerror(errno));
}
