/* SPDX-License-Identifier: Apache-2.0 */
#include "checks.h"
#include "failure.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

/* The number of the first one is a constant of the kernel's. */
#define FIRST_USER_NAMESPACE 4026531837u

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
  struct stat status;
  if (!stat("/proc/self/ns/user", &status) && status.st_ino != FIRST_USER_NAMESPACE)
    fail(EXIT_PRIVILEGE, "run it outside of that, or as a container that has none (not rootless)",
         "the root of a user namespace of its own has no power over the kernel");
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
