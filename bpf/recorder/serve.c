/* SPDX-License-Identifier: Apache-2.0 */
#include "serve.h"
#include "answers.h"
#include "descriptors.h"
#include "engine_marks.h"
#include "failure.h"
#include "held.h"
#include "launch.h"
#include "message.h"
#include "programs.h"
#include "recording.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE 5 /* seconds between asking a command to end and making it */
#define STOPS 64
#define ANSWERING 16
static int profinfer;     /* the socket */
static int ended_fd = -1; /* readable when a child of ours has ended, or is to end by now */
static pid_t command;     /* 0: none, or it has ended */
static size_t children;   /* others that have not ended */
static bool is_launched;

/* What a child of the server is not to inherit. */
static void become_child(const char *verb) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, 0);
  /* Nobody is left recording, or measuring, for nobody. */
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  close(ended_fd);
  launch_leave();
  failure_over(profinfer, verb);
  descriptors_allow();
}

/* Who answers something. */
static struct {
  pid_t pid; /* 0: nobody */
  char verb[16];
} answering[ANSWERING];

static void in_child(json_object *request, const char *verb, answer_fn *work) {
  size_t at = 0;
  while (at < ANSWERING && answering[at].pid)
    at++;
  if (at == ANSWERING)
    fail(EXIT_USAGE, "", "too much is asked at once");
  pid_t child = fork();
  if (child < 0)
    fail(EXIT_KERNEL, "", "cannot start a process: %s", strerror(errno));
  if (child == 0) {
    signal(SIGTERM, SIG_DFL);
    become_child(verb);
    work(profinfer, request);
    exit(0);
  }
  children++;
  answering[at].pid = child;
  snprintf(answering[at].verb, sizeof(answering[at].verb), "%s", verb);
}

/* Whether it was one of these; where it could not even say why it failed, that is said for it. */
static bool is_answer(pid_t pid, int status) {
  for (size_t i = 0; i < ANSWERING; i++) {
    if (answering[i].pid != pid)
      continue;
    answering[i].pid = 0;
    if (WIFSIGNALED(status)) {
      json_object *message = message_event("failed");
      message_set_text(message, "verb", answering[i].verb);
      message_set_number(message, "code", EXIT_KERNEL);
      message_set_text(message, "message",
                       text("the recorder's process was ended by signal %d", WTERMSIG(status)));
      message_set_text(message, "hint", "");
      message_send(profinfer, message);
    }
    return true;
  }
  return false;
}

/* ---- Recordings */

/* Once there is a command, or a recording: what comes to all of us (from timeout, say) is for
 * profinfer to take, and to end them as they should takes a while. */
static void outlive_others(void) { signal(SIGTERM, SIG_IGN); }

static void record(json_object *request, const int *fds, size_t count) {
  if (count < 3)
    fail(EXIT_USAGE, "", "a recording needs three descriptors, not %zu", count);
  outlive_others();
  pid_t child = fork();
  if (child < 0)
    fail(EXIT_KERNEL, "", "cannot start a process: %s", strerror(errno));
  if (child == 0) {
    become_child("record");
    close(profinfer);
    failure_over(fds[0], "record");
    struct options options = options_of(request);
    options.socket = fds[0];
    options.plan = "the plan";
    options.plan_fd = fds[1];
    options.output = text("%s", message_text(request, "output"));
    options.capture_fd = fds[2];
    json_object_put(request);
    recording_catch_signals();
    prctl(PR_SET_NAME, "profinfer-rec");
    /* Ctrl-C is for profinfer to take. */
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    recording_run(&options);
    exit(0);
  }
  children++;
  json_object *said = answer("record");
  message_set_number(said, "pid", child);
  message_send(profinfer, said);
}

/* ---- The command */

/* None is not 0, which is root's. */
static uint32_t id_of(json_object *id) {
  int64_t value = json_object_is_type(id, json_type_int) ? json_object_get_int64(id) : -1;
  if (value < 0 || value > UINT32_MAX)
    fail(EXIT_USAGE, "", "a user or group has no number");
  return value;
}

static void open_launch(json_object *request, const char *verb) {
  outlive_others();
  programs_use(strcmp(message_text(request, "loader"), "bcc") ? -1 : profinfer);
  failure_over(profinfer, verb);
  if (!is_launched) {
    engine_marks_set(message_list(request, "marks"));
    engine_marks_pass_over(message_text(request, "pass_over"));
    launch_open();
  }
  is_launched = true;
}

static void say_launched(const char *verb) {
  failure_over(profinfer, "");
  json_object *said = answer(verb);
  message_set_number(said, "pid", command);
  message_set_flag(said, "forks", launch_sees_forks());
  message_send(profinfer, said);
}

static void follow(json_object *request) {
  json_object *pids = message_list(request, "pids");
  open_launch(request, "follow");
  for (size_t i = 0; pids && i < json_object_array_length(pids); i++)
    launch_follow(json_object_get_int(json_object_array_get_idx(pids, i)));
  say_launched("follow");
}

static void launch(json_object *request) {
  struct launch_request wanted = {0};
  json_object *argv = message_list(request, "argv"), *user = 0, *groups;
  size_t words = argv ? json_object_array_length(argv) : 0;
  wanted.argv = allocate(words + 1, sizeof(*wanted.argv));
  for (size_t i = 0; i < words; i++)
    wanted.argv[i] = (char *)json_object_get_string(json_object_array_get_idx(argv, i));
  wanted.audit = message_text(request, "audit");
  if (json_object_object_get_ex(request, "user", &user) && user) {
    wanted.has_user = true;
    wanted.uid = id_of(json_object_object_get(user, "uid"));
    wanted.gid = id_of(json_object_object_get(user, "gid"));
    groups = message_list(user, "groups");
    wanted.group_count = groups ? json_object_array_length(groups) : 0;
    wanted.groups = allocate(wanted.group_count, sizeof(*wanted.groups));
    for (size_t i = 0; i < wanted.group_count; i++)
      wanted.groups[i] = id_of(json_object_array_get_idx(groups, i));
  }
  if (!words)
    fail(EXIT_USAGE, "", "there is no command to launch");
  open_launch(request, "launch");
  command = launch_start(&wanted);
  say_launched("launch");
  free(wanted.argv);
  free(wanted.groups);
}

static void watch_work(json_object *request, const int *fds, size_t count) {
  json_object *places = message_list(request, "offsets");
  size_t place_count = places ? json_object_array_length(places) : 0;
  if (count < 1)
    fail(EXIT_USAGE, "", "there is no file to watch");
  uint64_t *offsets = allocate(place_count, sizeof(*offsets));
  for (size_t i = 0; i < place_count; i++)
    offsets[i] = json_object_get_int64(json_object_array_get_idx(places, i));
  launch_watch_work(message_integer(request, "pid", INT32_MAX), message_flag(request, "everywhere"),
                    fds[0], offsets, place_count);
  free(offsets);
}

static void tell_stopped(void) {
  pid_t stopped[STOPS];
  size_t count = launch_take(stopped, STOPS);
  for (size_t i = 0; i < count; i++) {
    json_object *message = message_event("stopped");
    message_set_number(message, "pid", stopped[i]);
    unsigned why = launch_why(stopped[i]);
    struct work work;
    if (launch_work(stopped[i], &work))
      work_say(&work, message);
    message_set_flag(message, "at_work", why & AT_WORK);
    message_set_flag(message, "after_exec", why & AFTER_EXEC);
    message_set_flag(message, "forked", why & FORKED);
    message_send(profinfer, message);
  }
}

static void tell_ended(void) {
  struct signalfd_siginfo received;
  int status;
  pid_t pid;
  if (read(ended_fd, &received, sizeof(received)) < 0)
    return;
  /* It need not be let go for that. Here it is our child for certain, not whoever has its PID. */
  if (received.ssi_signo == SIGALRM && command)
    kill(command, SIGKILL);
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
    children -= pid != command;
    if (is_answer(pid, status))
      continue;
    json_object *message = message_event(pid == command ? "exited" : "recorder_exited");
    message_set_number(message, "pid", pid);
    message_set_number(message, "status", status);
    message_send(profinfer, message);
    if (pid == command) {
      command = 0;
      alarm(0);
    }
  }
}

static void terminate(void) {
  if (!command)
    return;
  kill(command, SIGTERM);
  launch_go(command);
  alarm(PATIENCE);
}

/* ---- Obeying */

static void obey(json_object *request, const int *fds, size_t count) {
  const char *verb = message_text(request, "verb");
  pid_t pid = message_integer(request, "pid", INT32_MAX);
  answer_fn *work = answers_find(verb);
  if (work) {
    /* The child inherits a file under the same number. */
    if (count)
      message_set_number(request, "file", fds[0]);
    in_child(request, verb, work);
    return;
  }
  if (!strcmp(verb, "record")) {
    record(request, fds, count);
    return;
  }
  if (!strcmp(verb, "launch")) {
    launch(request);
    return;
  }
  if (!strcmp(verb, "follow")) {
    follow(request);
    return;
  }
  if (!strcmp(verb, "go"))
    launch_go(pid);
  else if (!strcmp(verb, "watch_work"))
    watch_work(request, fds, count);
  else if (!strcmp(verb, "settle"))
    launch_settle(pid);
  else if (!strcmp(verb, "terminate"))
    terminate();
  else
    fail(EXIT_USAGE, "use parts of one version", "there is no verb %s", verb);
  message_send(profinfer, answer(verb));
}

/* Whether anybody will ask anything more. */
static bool take_request(void) {
  int fds[MESSAGE_FDS];
  size_t count;
  json_object *request = message_receive(profinfer, fds, &count);
  if (!request)
    return false;
  obey(request, fds, count);
  for (size_t i = 0; i < count; i++)
    close(fds[i]);
  json_object_put(request);
  return true;
}

static void prepare(void) {
  sigset_t ended;
  sigemptyset(&ended);
  sigaddset(&ended, SIGCHLD);
  sigaddset(&ended, SIGALRM);
  sigprocmask(SIG_BLOCK, &ended, 0);
  ended_fd = signalfd(-1, &ended, SFD_CLOEXEC | SFD_NONBLOCK);
  if (ended_fd < 0)
    fail(EXIT_KERNEL, "", "cannot wait for processes: %s", strerror(errno));
  /* Ctrl-C is for profinfer to take; nobody has to read what we say. */
  for (int *number = (int[]){SIGINT, SIGHUP, SIGQUIT, SIGPIPE, SIGXFSZ, 0}; *number; number++)
    signal(*number, SIG_IGN);
}

void serve(int socket) {
  profinfer = socket;
  fcntl(profinfer, F_SETFD, FD_CLOEXEC); /* inherited, but the command's is it not */
  failure_over(socket, "");
  prepare();
  for (;;) {
    struct pollfd waited[] = {
        {profinfer, POLLIN, 0}, {ended_fd, POLLIN, 0}, {is_launched ? launch_fd() : -1, POLLIN, 0}};
    if (poll(waited, 3, -1) < 0 && errno != EINTR)
      fail(EXIT_KERNEL, "", "cannot wait: %s", strerror(errno));
    if (waited[2].revents)
      tell_stopped();
    if (waited[1].revents)
      tell_ended();
    if (waited[0].revents && !take_request())
      break;
  }
  if (is_launched)
    launch_close();
  /* They make whole what they have recorded; our end would hurry them. */
  while (children) {
    struct pollfd ended = {ended_fd, POLLIN, 0};
    poll(&ended, 1, -1);
    tell_ended();
  }
}
