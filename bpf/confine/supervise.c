/* SPDX-License-Identifier: Apache-2.0 */
#include "supervise.h"
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t first;

/* In the first process: hangs up as soon as the one above it is gone. */
static int lifeline = -1;

static void set(const char *file, const char *text) {
  int opened = open(file, O_WRONLY | O_CLOEXEC);
  ssize_t written = opened < 0 ? -1 : write(opened, text, strlen(text));
  if (opened >= 0)
    close(opened);
  /* Then this user is no user there, who may do less still. */
  (void)written;
}

static void keep_user(uid_t uid, gid_t gid) {
  set("/proc/self/setgroups", "deny");
  set("/proc/self/uid_map", report_text("%u %u 1", uid, uid));
  set("/proc/self/gid_map", report_text("%u %u 1", gid, gid));
}

struct isolation supervise_isolate(void) {
  uid_t uid = geteuid();
  gid_t gid = getegid();
  int user = uid ? CLONE_NEWUSER : 0;
  int more = CLONE_NEWPID | CLONE_NEWIPC;
  struct isolation isolation = {false, false, false};
  if (!unshare(CLONE_NEWNET | more | user))
    isolation = (struct isolation){true, true, true};
  else if (!unshare(CLONE_NEWNET | user))
    isolation = (struct isolation){true, false, true};
  if (isolation.network && user)
    keep_user(uid, gid);
  return isolation;
}

void supervise_die_with_parent(void) { prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); }

/* Who died before that was asked for is not noticed by it. */
static void die_with_the_one_above(void) {
  supervise_die_with_parent();
  struct pollfd above = {.fd = lifeline};
  if (poll(&above, 1, 0) > 0)
    _exit(EXIT_FAILURE);
}

static void follow(pid_t child) {
  int status;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR)
      _exit(EXIT_FAILURE);
  /* An exit status cannot carry a signal: shells' convention. */
  _exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

static void time_is_up(int signal) {
  (void)signal;
  _exit(128 + SIGALRM);
}

static void end_first(int signal) {
  (void)signal;
  kill(first, SIGKILL);
}

static pid_t split(void) {
  pid_t child = fork();
  if (child < 0)
    report_failure("no process: %s", strerror(errno));
  return child;
}

void supervise_first(unsigned seconds) {
  sigset_t term, none;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC))
    report_failure("no pipe: %s", strerror(errno));
  sigemptyset(&none);
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  /* Not before it is known whom it ends. */
  sigprocmask(SIG_BLOCK, &term, NULL);
  first = split();
  if (first)
    signal(SIGTERM, end_first);
  /* Whatever was blocked by who asks. */
  sigprocmask(SIG_SETMASK, &none, NULL);
  close(ends[first ? 0 : 1]);
  if (first)
    follow(first);
  lifeline = ends[0];
  die_with_the_one_above();
  /* From now on: files take their time, too, and whoever asked may be gone already. */
  signal(SIGALRM, time_is_up);
  alarm(seconds + 2);
}

void supervise_worker(void (*retire)(void *data), void *data) {
  pid_t worker = split();
  if (!worker)
    return;
  dup2(lifeline, STDIN_FILENO);
  lifeline = STDIN_FILENO;
  retire(data);
  die_with_the_one_above();
  follow(worker);
}
