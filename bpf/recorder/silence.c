/* SPDX-License-Identifier: Apache-2.0 */
#include "silence.h"
#include "failure.h"

#include <string.h>
#include <time.h>

/* CPU time in which something must have been seen of an engine that computes. */
#define PATIENCE_S 3.0

static double cpu_seconds(const struct silence *silence) {
  clockid_t clock;
  struct timespec now;
  /* Of a target that has ended the last one holds. */
  if (target_has_ended(silence->target) || clock_getcpuclockid(silence->target->pid, &clock) ||
      clock_gettime(clock, &now))
    return silence->used + silence->began;
  return now.tv_sec + now.tv_nsec / 1e9;
}

struct silence silence_begin(const struct options *options, const struct plan *plan,
                             const struct target *target, enum level level) {
  struct silence silence = {options, plan, target, level, 0, 0, false, LEVEL_COUNT};
  silence.began = cpu_seconds(&silence);
  return silence;
}

static bool has_come(const struct drain *drain, unsigned kind) {
  return drain->drained[kind] || drain_lost_of(drain, kind);
}

/* Whether anything was to come of a level, and has not. */
static bool is_silent(const struct silence *silence, const struct drain *drain, enum level level) {
  static const unsigned first[] = {KIND_UBATCH_BEGIN, KIND_GRAPH_BEGIN, KIND_OPERATOR,
                                   KIND_BARRIER};
  bool is_planned = false;
  for (size_t i = 0; i < silence->plan->probe_count; i++)
    is_planned |= silence->plan->probes[i].level == level && silence->plan->probes[i].required;
  if (!is_planned || level > silence->level)
    return false;
  if (level >= LEVEL_OPERATOR && silence->options->empty_handlers)
    return false;
  return !has_come(drain, first[level]) &&
         (level != LEVEL_OPERATOR || !has_come(drain, KIND_FUSED));
}

/* The functions whose calls make the records of a level. */
static const char *functions(const struct plan *plan, enum level level) {
  const char *names = "";
  for (size_t i = 0; i < plan->probe_count; i++) {
    const struct plan_probe *probe = &plan->probes[i];
    if (probe->level == level && probe->required && !probe->at_return &&
        !strstr(names, probe->symbol))
      names = text("%s%s%s", names, *names ? ", " : "", probe->symbol);
  }
  return names;
}

/* In the order of enum level, of an engine that computes. */
static const char *const reasons[] = {
    "it computes by other ways",
    "its graphs are computed by another copy of the library, or of another engine",
    "its graphs may all run on a device, or the compiler has copied the function into its callers",
    "it may compute without other threads, or the compiler has copied the function into its "
    "callers",
};

static bool has_any(const struct drain *drain) {
  static const unsigned kinds[] = {KIND_UBATCH_BEGIN, KIND_GRAPH_BEGIN, KIND_OPERATOR, KIND_FUSED,
                                   KIND_BARRIER};
  for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
    if (has_come(drain, kinds[i]))
      return true;
  return false;
}

/* Nothing is said where records are made of some micro-batches only. */
static const char *say(struct silence *silence, const struct drain *drain, bool at_end) {
  enum level level = LEVEL_TOKEN;
  silence->used = cpu_seconds(silence) - silence->began;
  while (level < LEVEL_COUNT && !is_silent(silence, drain, level))
    level++;
  if (level == LEVEL_COUNT || silence->options->last_ubatch)
    return 0;
  bool is_idle = !has_any(drain);
  if (silence->used < PATIENCE_S && !(at_end && is_idle))
    return 0;
  const char *names = functions(silence->plan, level);
  if (is_idle && silence->level >= LEVEL_GRAPH && *functions(silence->plan, LEVEL_GRAPH))
    names = functions(silence->plan, LEVEL_GRAPH);
  silence->said = is_idle ? LEVEL_COUNT : level;
  if (is_idle)
    return text("process %d (%s) holds an engine and has computed nothing with it in %.1f s of CPU "
                "time (no call of %s): another process may compute for it, or another copy of the "
                "engine, or it has read its model and had nothing to do",
                silence->target->pid, drain->target_name, silence->used, names);
  return text("in %.1f s of CPU time process %d (%s) has not called %s once: %s", silence->used,
              silence->target->pid, drain->target_name, names, reasons[level]);
}

const char *silence_look(struct silence *silence, const struct drain *drain) {
  if (silence->is_said)
    return 0;
  const char *said = say(silence, drain, false);
  silence->is_said = said;
  return said;
}

json_object *silence_symbols(const struct silence *silence) {
  if (silence->said == LEVEL_COUNT)
    return 0;
  json_object *symbols = json_object_new_array();
  for (size_t i = 0; i < silence->plan->probe_count; i++) {
    const struct plan_probe *probe = &silence->plan->probes[i];
    /* Of calls each is made or not for reasons of its own. */
    if (probe->level == silence->said && !probe->at_return &&
        strncmp(probe->handler, "on_call_", strlen("on_call_")))
      json_object_array_add(symbols, json_object_new_string(probe->symbol));
  }
  return symbols;
}

const char *silence_end(struct silence *silence, const struct drain *drain) {
  return say(silence, drain, true);
}
