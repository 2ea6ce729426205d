/* SPDX-License-Identifier: Apache-2.0 */
#include "command.h"
#include "descriptors.h"
#include "failure.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static sigset_t ignored, blocked;
static struct rlimit locked_memory; /* libbpf raises it on old kernels */

void command_remember(void) {
  struct sigaction action;
  sigprocmask(SIG_SETMASK, 0, &blocked);
  sigemptyset(&ignored);
  for (int number = 1; number < NSIG; number++)
    if (!sigaction(number, 0, &action) && action.sa_handler == SIG_IGN)
      sigaddset(&ignored, number);
  getrlimit(RLIMIT_MEMLOCK, &locked_memory);
}

/* ---- In the child */

static void restore(void) {
  for (int number = 1; number < NSIG; number++) {
    struct sigaction action = {.sa_handler = sigismember(&ignored, number) ? SIG_IGN : SIG_DFL};
    sigaction(number, &action, 0);
  }
  descriptors_restore();
  setrlimit(RLIMIT_MEMLOCK, &locked_memory);
}

static bool become(const struct launch_request *request) {
  return !request->has_user || (!setgroups(request->group_count, request->groups) &&
                                !setresgid(request->gid, request->gid, request->gid) &&
                                !setresuid(request->uid, request->uid, request->uid));
}

/* A library that the command's user cannot read would only earn a complaint. */
static bool can_read_audit(const char *audit) {
  const char *colon = strrchr(audit, ':');
  return access(colon ? colon + 1 : audit, R_OK) == 0;
}

static _Noreturn void become_command(const struct launch_request *request, int gate, int error) {
  char byte;
  launch_leave();
  restore();
  /* Where whoever has forked us is killed, the gate opens, too: the command runs without it. */
  while (read(gate, &byte, 1) < 0 && errno == EINTR)
    ;
  if (become(request)) {
    if (*request->audit && can_read_audit(request->audit))
      setenv("LD_AUDIT", request->audit, 1);
    sigprocmask(SIG_SETMASK, &blocked, 0);
    execvp(*request->argv, request->argv);
  }
  int reason = errno;
  ssize_t written = write(error, &reason, sizeof(reason));
  (void)written;
  _exit(127);
}

/* ---- In the parent */

pid_t command_start(const struct launch_request *request, void (*known)(pid_t pid)) {
  int gate[2], error[2], reason;
  sigset_t all, usual;
  if (pipe2(gate, O_CLOEXEC) || pipe2(error, O_CLOEXEC))
    fail(EXIT_KERNEL, "", "cannot make a pipe: %s", strerror(errno));
  sigfillset(&all); /* a signal before exec is not for our handlers */
  sigprocmask(SIG_BLOCK, &all, &usual);
  pid_t pid = fork();
  if (pid == 0) {
    close(gate[1]);
    close(error[0]);
    become_command(request, gate[0], error[1]);
  }
  int failed = errno;
  sigprocmask(SIG_SETMASK, &usual, 0);
  close(gate[0]);
  close(error[1]);
  if (pid < 0)
    fail(EXIT_KERNEL, "", "cannot start a process: %s", strerror(failed));
  known(pid);
  close(gate[1]);
  ssize_t got;
  while ((got = read(error[0], &reason, sizeof(reason))) < 0 && errno == EINTR)
    ; /* it ends with exec */
  close(error[0]);
  if (got != sizeof(reason))
    return pid;
  waitpid(pid, 0, 0);
  fail(EXIT_TARGET, reason == ENOENT ? "is it spelt right, and on PATH?" : "", "cannot run %s: %s",
       *request->argv, strerror(reason));
}
