/* SPDX-License-Identifier: Apache-2.0 */
#include "pid_namespace.h"
#include "failure.h"
#include "kernel_types.h"

#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The first one's inode is a constant of the kernel's. */
#define MACHINES_INODE 4026531836u

#define LEVEL_MOST 32 /* MAX_PID_NS_LEVEL */
#define UPID_SIZE 16

static struct {
  bool is_known;
  uint32_t inode;
  int level;
  const char *problem;
} own;

/* How many namespaces lie above ours, -1 where that cannot be found out. A process may be asked for
 * by the numbers that it is to have in ours and in those above it, in no more of them than there
 * are (clone3(2)). The number 1 is taken in all of them: none begins. */
static int find_level(void) {
  pid_t ones[LEVEL_MOST];
  for (int i = 0; i < LEVEL_MOST; i++)
    ones[i] = 1;
  for (int count = 1; count <= LEVEL_MOST; count++) {
    struct clone_args wanted = {
        .exit_signal = SIGCHLD, .set_tid = (uintptr_t)ones, .set_tid_size = count};
    long child = syscall(SYS_clone3, &wanted, sizeof(wanted));
    if (child == 0)
      _exit(0);
    if (child > 0)
      waitpid(child, 0, 0);
    if (child < 0 && errno == EINVAL)
      return count - 2;
    if (child < 0 && errno != EEXIST && errno != EPERM)
      return -1;
  }
  return LEVEL_MOST - 1;
}

/* Whether /proc has the numbers of our own namespace: with those of another one above it, our own
 * process has several there. */
static bool has_own_proc(void) {
  int first, second, found = 0;
  char line[128];
  FILE *file = fopen("/proc/self/status", "re");
  while (file && fgets(line, sizeof(line), file))
    if (!strncmp(line, "NSpid:", 6))
      found = sscanf(line, "NSpid: %d %d", &first, &second);
  if (file)
    fclose(file);
  return found == 1 && first == getpid();
}

static bool has_places(const struct kernel_types *types) {
  return types->task_thread_pid >= 0 && types->task_group_leader >= 0 && types->pid_depth >= 0 &&
         types->pid_numbers >= 0 && types->namespace_inode >= 0;
}

static const char *find_problem(void) {
  const struct kernel_types *types = kernel_types();
  struct stat children;
  if (!has_own_proc())
    return "/proc is another PID namespace's";
  if (stat("/proc/self/ns/pid_for_children", &children) || children.st_ino != own.inode)
    return "what is started here lives in another PID namespace than this process";
  if (*types->problem)
    return types->problem;
  if (!has_places(types))
    return "this kernel's BTF does not tell how threads are numbered in PID namespaces";
  own.level = find_level();
  return own.level > 0 ? "" : "this kernel does not tell how deep this PID namespace lies";
}

static void look(void) {
  struct stat status;
  if (own.is_known)
    return;
  own.is_known = true;
  own.inode = stat("/proc/self/ns/pid", &status) ? MACHINES_INODE : (uint32_t)status.st_ino;
  own.problem = own.inode == MACHINES_INODE ? "" : find_problem();
}

bool pids_are_the_machines(void) {
  look();
  return own.inode == MACHINES_INODE;
}

uint32_t pids_inode(void) {
  look();
  return own.inode;
}

const char *pids_problem(void) {
  look();
  return own.problem;
}

void pids_check(void) {
  if (*pids_problem())
    fail(EXIT_KERNEL, HINT_ALL_PIDS, "cannot record in a PID namespace of its own: %s",
         pids_problem());
}

void pids_parameters(struct source *source) {
  bool is_inside = !pids_are_the_machines();
  /* The kernel describes itself to those who need it only. */
  const struct kernel_types *types = is_inside ? kernel_types() : 0;
  source_parameter(source, "PID_LEVEL", own.level);
  source_parameter(source, "PID_NAMESPACE", (int32_t)own.inode);
  source_parameter(source, "TASK_THREAD_PID", types ? types->task_thread_pid : -1);
  source_parameter(source, "TASK_GROUP_LEADER", types ? types->task_group_leader : -1);
  source_parameter(source, "PID_DEPTH", types ? types->pid_depth : -1);
  source_parameter(source, "PID_NUMBER", types ? types->pid_numbers + own.level * UPID_SIZE : -1);
  source_parameter(source, "NAMESPACE_INODE", types ? types->namespace_inode : -1);
}
