/* SPDX-License-Identifier: Apache-2.0 */
#include "checks.h"
#include "failure.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* CAP_BPF and CAP_PERFMON are not enough: current kernels want CAP_SYS_ADMIN for uprobes by perf
 * event, and so does what the target has mapped to be opened. */
void check_privileges(void) {
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

void check_machine(const struct plan *plan) {
  struct utsname name;
  uname(&name);
  if (strcmp(plan->machine, name.machine))
    fail(EXIT_PROBES, "make the plan from the files of this machine",
         "%s is a plan for %s; this machine is %s", plan->path, plan->machine, name.machine);
}

enum level check_level(const struct options *options, const struct plan *plan) {
  enum level level = options->level ? level_named(options->level) : plan->level;
  if (level > plan->level)
    fail(EXIT_PLAN, text("make one with profinfer plan --level %s", options->level),
         "%s is a plan for level %s and has no probes for %s", plan->path, level_names[plan->level],
         options->level);
  if (options->experts && level < LEVEL_OPERATOR)
    fail(EXIT_USAGE, "--level operator", "--experts needs operators, which this level has not");
  return level;
}

/* The number of the first one is a constant of the kernel's. */
bool has_all_pids(void) {
  char name[64] = "";
  return readlink("/proc/self/ns/pid", name, sizeof(name) - 1) <= 0 ||
         !strcmp(name, "pid:[4026531836]");
}

void check_pids(const struct options *options, json_object *notes) {
  if (has_all_pids())
    return;
  if (options->faults || options->block_io)
    fail(EXIT_KERNEL, HINT_ALL_PIDS, MEMORY_NEEDS_ALL_PIDS);
  json_object_array_add(
      notes, json_object_new_string("threads bear the machine's numbers, which this PID namespace "
                                    "does not know, and the name of their process"));
}
