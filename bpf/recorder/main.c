/* SPDX-License-Identifier: Apache-2.0 */
/* One recording: find the target's files, load the handlers, attach, drain until the end. */
#include "capture.h"
#include "failure.h"
#include "metadata.h"
#include "recording.h"
#include "uprobes.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

/* CAP_BPF and CAP_PERFMON are not enough: current kernels want CAP_SYS_ADMIN for uprobes by perf
 * event, and so does what the target has mapped to be opened. */
static void check_privileges(void) {
  unsigned long long mask = ~0ull;
  char line[128];
  FILE *file = fopen("/proc/self/status", "re");
  if (!file)
    fail(EXIT_KERNEL, "mount /proc", "cannot read /proc/self/status");
  while (fgets(line, sizeof(line), file) && sscanf(line, "CapEff: %llx", &mask) != 1)
    ;
  fclose(file);
  bool lacks_admin = ~mask & 1ull << 21, lacks_ptrace = ~mask & 1ull << 19;
  if (lacks_admin || lacks_ptrace)
    fail(EXIT_PRIVILEGE, "run it as root", "recording needs %s%s%s, which this process lacks",
         lacks_admin ? "CAP_SYS_ADMIN" : "", lacks_admin && lacks_ptrace ? ", " : "",
         lacks_ptrace ? "CAP_SYS_PTRACE" : "");
}

static void check_machine(const struct plan *plan) {
  struct utsname name;
  uname(&name);
  if (strcmp(plan->machine, name.machine))
    fail(EXIT_PROBES, "make the plan from the files of this machine",
         "%s is a plan for %s; this machine is %s", plan->path, plan->machine, name.machine);
}

static enum level wanted_level(const struct options *options, const struct plan *plan) {
  enum level level = options->level ? level_named(options->level) : plan->level;
  if (level > plan->level)
    fail(EXIT_PLAN, text("make one with profinfer plan --level %s", options->level),
         "%s is a plan for level %s and has no probes for %s", plan->path, level_names[plan->level],
         options->level);
  return level;
}

static void say_that_it_records(const struct drain *drain, const struct uprobes *uprobes,
                                enum level level) {
  tell("recording %s (%d), %zu probes, level %s: Ctrl-C ends it", drain->target_name,
       drain->objects->target->pid, uprobes->count, level_names[level]);
}

static void report(const struct options *options, const struct drain *drain, const char *reason,
                   double seconds) {
  tell("%s: %.1f MB, %llu records in %.1f s, %llu lost (%s)", options->output, capture_size() / 1e6,
       (unsigned long long)drain->records, seconds, (unsigned long long)drain_lost(drain), reason);
  if (drain_lost(drain)) {
    warn("records were lost: the rings were full");
    fputs("hint: a larger --ring-size, a shorter --poll, or a lower --level loses fewer\n", stderr);
  }
}

int main(int argc, char **argv) {
  struct options options = options_parse(argc, argv);
  recording_catch_signals();
  struct plan plan = plan_read(options.plan);
  enum level level = wanted_level(&options, &plan);
  if (options.experts && level < LEVEL_OPERATOR)
    fail(EXIT_USAGE, "--level operator", "--experts needs operators, which this level has not");
  check_machine(&plan);
  check_privileges();
  struct target target = target_open(options.pid);
  struct objects objects = objects_find(&plan, &target, level);
  capture_open(options.output, options.force);
  struct features features = features_find(options.transport);
  struct counters counters = {0};
  if (level >= LEVEL_OPERATOR)
    counters = counters_open(&plan, programs_cpus());
  struct program_options wanted = {
      options.object, level,           options.ring_size,     options.structure_ring_size,
      &counters,      options.experts, options.expert_weights};
  struct programs programs = programs_load(&wanted, &features, &plan);
  struct rings rings = programs_rings(&programs, &wanted);
  metadata_start(&plan, &objects, &options, level, &programs, &counters);
  capture_clocks();
  struct drain drain = drain_begin(&programs, &objects, rings);
  counters_start(&counters, &programs);
  programs_activate(&programs, true);
  recording_count_runs(&drain, 0);
  struct uprobes uprobes = uprobes_attach(&programs, &objects, level);
  malloc_trim(0); /* loading took some memory that recording does not */
  say_that_it_records(&drain, &uprobes, level);
  double began = clock_s(CLOCK_MONOTONIC), cpu = clock_s(CLOCK_PROCESS_CPUTIME_ID);
  const char *reason = recording_run(&options, &target, &drain, began);
  programs_activate(&programs, false);
  uprobes_detach(&uprobes);
  usleep(5000); /* a handler that had begun ends meanwhile */
  drain_take(&drain);
  capture_clocks();
  double seconds = clock_s(CLOCK_MONOTONIC) - began;
  metadata_end(&plan, &drain, level, reason, seconds, clock_s(CLOCK_PROCESS_CPUTIME_ID) - cpu);
  capture_close();
  report(&options, &drain, reason, seconds);
  counters_warn(&counters);
  return 0;
}
