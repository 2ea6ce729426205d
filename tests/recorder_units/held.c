/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a process that is to be stopped stands still, and is still the same. */
#include "held.h"
#include "harness.h"

#include <signal.h>
#include <sys/prctl.h>

/* A child that waits, and has a name that looks like the rest of its stat. */
static pid_t start(void) {
  pid_t child = fork();
  if (!child) {
    prctl(PR_SET_NAME, ") T 1 2 3 4 (");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;)
      pause();
  }
  CHECK(child > 0);
  usleep(20000); /* starts are told in hundredths of a second */
  return child;
}

static void stop(pid_t pid) {
  int status;
  kill(pid, SIGSTOP);
  CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
}

static void end(pid_t pid) {
  kill(pid, SIGKILL);
  waitpid(pid, 0, 0);
}

static void it_moves_and_then_stands_still(void) {
  struct held held = {start(), monotonic_ns()};
  CHECK_EQUAL(held_look(&held), HELD_MOVING);
  stop(held.pid);
  CHECK_EQUAL(held_look(&held), HELD_STILL);
  end(held.pid);
}

static void who_does_not_stop_is_not_waited_for(void) {
  struct held held = {start(), monotonic_ns() - 2100000000ull};
  /* It was there before that: it has just begun. */
  CHECK_EQUAL(held_look(&held), HELD_GONE);
  end(held.pid);
  held = (struct held){getpid(), monotonic_ns()};
  usleep(2100000);
  CHECK_EQUAL(held_look(&held), HELD_STILL);
}

static void who_has_ended_is_gone(void) {
  struct held held = {start(), monotonic_ns()};
  siginfo_t info;
  kill(held.pid, SIGKILL);
  waitid(P_PID, held.pid, &info, WEXITED | WNOWAIT);
  CHECK_EQUAL(held_look(&held), HELD_GONE); /* a zombie */
  waitpid(held.pid, 0, 0);
  CHECK_EQUAL(held_look(&held), HELD_GONE);
}

static void nobody_else_is_let_go(void) {
  struct held held = {start(), monotonic_ns()};
  int status;
  stop(held.pid);
  struct held other = {held.pid, held.since - 1000000000ull}; /* who had this PID a second before */
  CHECK_EQUAL(held_look(&other), HELD_GONE);
  held_continue(&other);
  usleep(10000);
  CHECK_EQUAL(waitpid(held.pid, &status, WCONTINUED | WNOHANG), 0);
  held_continue(&held);
  CHECK(waitpid(held.pid, &status, WCONTINUED) == held.pid && WIFCONTINUED(status));
  end(held.pid);
}

int main(void) {
  RUN(it_moves_and_then_stands_still);
  RUN(who_does_not_stop_is_not_waited_for);
  RUN(who_has_ended_is_gone);
  RUN(nobody_else_is_let_go);
}
