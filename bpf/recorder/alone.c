/* SPDX-License-Identifier: Apache-2.0 */
#include "alone.h"
#include "clocks.h"
#include "failure.h"
#include "launch.h"
#include "message.h"
#include "objects.h"
#include "recording.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define STOPS 64
#define LOOK_MS 200
#define GRACE_S 1 /* in which a command ends as a rule */

static struct {
  pid_t command, recorder, target; /* 0: none */
  int command_status, recorder_status;
  bool has_command_ended, has_target_ended;
  int socket;   /* to the recorder */
  double until; /* when the duration is over; 0: never */
} alone = {.socket = -1};

static volatile sig_atomic_t interrupted; /* by the last signal that nobody has obeyed yet */
static int ending;                        /* the one that ends the recording; 0 */

static void on_signal(int number) { interrupted = number; }

/* Whether a stopped process has mapped all that the plan needs, so that it can be recorded. */
static bool has_engine(const struct options *options, const struct plan *plan, pid_t pid) {
  struct target target;
  enum level level = options->level ? level_named(options->level) : plan->level;
  if (!target_try(pid, &target))
    return false;
  struct objects objects;
  bool has_all = objects_try(plan, &target, level, &objects);
  if (has_all)
    objects_close(&objects);
  target_close(&target);
  return has_all;
}

/* Starts the recorder of a process, and waits until its probes are in place, or it has failed. */
static void record(const struct options *options, pid_t pid) {
  int sockets[2], none[MESSAGE_FDS];
  size_t count;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets))
    fail(EXIT_KERNEL, "", "cannot make a socket: %s", strerror(errno));
  alone.recorder = fork();
  if (alone.recorder < 0)
    fail(EXIT_KERNEL, "", "cannot start a process: %s", strerror(errno));
  if (alone.recorder == 0) {
    struct options its = *options;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    launch_leave();
    close(sockets[0]);
    its.pid = pid;
    its.socket = sockets[1];
    its.is_alone = true;
    recording_catch_signals();
    recording_run(&its);
    exit(0);
  }
  close(sockets[1]);
  alone.socket = sockets[0];
  alone.target = pid;
  json_object_put(message_receive(alone.socket, none, &count));
  if (options->duration)
    alone.until = clock_s(CLOCK_MONOTONIC) + options->duration;
}

static void ask(const char *verb) {
  json_object *message = json_object_new_object();
  int status = alone.command_status;
  message_set_text(message, "verb", verb);
  if (alone.has_command_ended)
    message_set_number(message, "command_status",
                       WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status));
  message_send(alone.socket, message);
}

/* What the recorder says: once it is over, it waits to be told how the command has ended. */
static bool hear(void) {
  int none[MESSAGE_FDS];
  size_t count;
  json_object *message = message_receive(alone.socket, none, &count);
  bool is_over = message && !strcmp(message_text(message, "event"), "over");
  if (is_over)
    alone.has_target_ended = !strcmp(message_text(message, "reason"), "the target ended");
  json_object_put(message);
  return is_over;
}

/* Whether the recorder has said meanwhile that it is over: then it has heard of nothing else. */
static bool look_at_stopped(const struct options *options, const struct plan *plan) {
  pid_t stopped[STOPS];
  size_t count = launch_take(stopped, STOPS);
  bool is_over = false;
  for (size_t i = 0; i < count; i++) {
    if (!alone.recorder && has_engine(options, plan, stopped[i])) {
      record(options, stopped[i]);
      launch_keep(stopped[i]);
    } else if (stopped[i] == alone.target && !is_over) {
      ask("more"); /* another of the plan's files may have been loaded */
      is_over = hear();
    }
    launch_go(stopped[i]);
  }
  return is_over;
}

static void reap(void) {
  int status;
  pid_t pid;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
    if (pid == alone.command) {
      alone.has_command_ended = true;
      alone.command_status = status;
    } else if (pid == alone.recorder) {
      alone.recorder_status = status;
      close(alone.socket);
      alone.socket = -1;
    }
  }
}

/* A signal that nobody but we got is for the recorder; two are as good as one. */
static bool pass_on_signal(void) {
  int number = interrupted;
  interrupted = 0;
  ending = ending ? ending : number;
  if (number && alone.socket >= 0)
    kill(alone.recorder, number);
  return number;
}

/* Until it has ended, a signal comes or, where there is such a time, it is late. */
static void wait_for_command(double until) {
  while (!alone.has_command_ended && !interrupted && (!until || clock_s(CLOCK_MONOTONIC) < until)) {
    usleep(20000);
    reap();
  }
}

static void kill_command(void) {
  for (int tries = 0; !alone.has_command_ended && tries < 500; tries++) {
    if (tries % 250 == 0)
      kill(alone.command, tries ? SIGKILL : SIGTERM);
    usleep(20000);
    reap();
  }
}

/* What was recorded is over, and nobody is stopped any more. The command runs on, unless --kill is
 * given; where it is its own end, or the terminal, which sends Ctrl-C to it as well, that ends it,
 * it is waited for, until a signal (another one) comes. */
static void leave_command(const struct options *options, bool is_over) {
  launch_close();
  if (is_over && alone.has_target_ended && !ending)
    wait_for_command(alone.until);
  ending = ending ? ending : interrupted;
  interrupted = 0;
  if (ending == SIGINT) {
    wait_for_command(clock_s(CLOCK_MONOTONIC) + GRACE_S);
    if (!alone.has_command_ended && !interrupted)
      tell("waiting for %s (%d) to end: another Ctrl-C leaves it running", *options->command,
           alone.command);
    wait_for_command(0);
  } else if (options->kills) {
    kill_command();
  }
  if (!alone.has_command_ended)
    tell("%s is left running (PID %d)", *options->command, alone.command);
}

static void say_how_it_ended(const char *command, int status) {
  const char *name = WIFSIGNALED(status) ? sigabbrev_np(WTERMSIG(status)) : 0;
  if (!WIFSIGNALED(status))
    tell("%s exited with status %d", command, WEXITSTATUS(status));
  else if (name)
    tell("%s was ended by SIG%s", command, name);
  else /* a real-time one has no name */
    tell("%s was ended by signal %d", command, WTERMSIG(status));
}

int alone_run(struct options *options) {
  struct plan plan = plan_read(options->plan, -1);
  struct launch_request wanted = {.argv = options->command, .audit = ""};
  struct sigaction action = {.sa_handler = on_signal};
  bool is_over = false, was_interrupted = false;
  for (int *number = (int[]){SIGINT, SIGTERM, SIGHUP, 0}; *number; number++)
    sigaction(*number, &action, 0);
  launch_open();
  alone.command = launch_start(&wanted);
  while (!is_over && !was_interrupted &&
         (alone.recorder ? alone.socket >= 0 : !alone.has_command_ended)) {
    struct pollfd waited[] = {{launch_fd(), POLLIN, 0}, {alone.socket, POLLIN, 0}};
    poll(waited, 2, LOOK_MS);
    is_over = look_at_stopped(options, &plan) || (alone.socket >= 0 && waited[1].revents && hear());
    reap();
    was_interrupted = pass_on_signal() && !alone.recorder;
  }
  leave_command(options, is_over);
  if (is_over && alone.socket >= 0)
    ask("finish");
  if (was_interrupted)
    fail(EXIT_TARGET, "", "interrupted before %s had loaded what %s needs", *options->command,
         options->plan);
  if (!alone.recorder)
    fail(EXIT_TARGET, "record the process that runs the model",
         "%s ended before it had loaded what %s needs", *options->command, options->plan);
  while (alone.socket >= 0) {
    usleep(2000);
    reap();
  }
  if (alone.has_command_ended)
    say_how_it_ended(*options->command, alone.command_status);
  return WIFEXITED(alone.recorder_status) ? WEXITSTATUS(alone.recorder_status) : EXIT_KERNEL;
}
