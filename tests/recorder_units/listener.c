/* SPDX-License-Identifier: Apache-2.0 */
#include "listener.h"
#include "harness.h"
#include "message.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

static int theirs;

static struct listener begin(void) {
  int ends[2];
  CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends));
  theirs = ends[1];
  return (struct listener){.socket = ends[0], .is_shown = true, .plan_fd = -1};
}

static void say(const char *text) {
  CHECK_EQUAL(send(theirs, text, strlen(text), 0), strlen(text));
}

static json_object *heard(void) {
  int fds[MESSAGE_FDS];
  size_t count;
  json_object *message = message_receive(theirs, fds, &count);
  CHECK(message);
  return message;
}

static void asked_to_stop(void) {
  struct listener listener = begin();
  listener_wait(&listener, -1, 0);
  CHECK(!listener.reason);
  say("{\"verb\": \"stop\", \"reason\": \"Ctrl-C\"}");
  listener_wait(&listener, -1, 10);
  CHECK_TEXT(listener.reason, "Ctrl-C");
  CHECK(listener.socket >= 0);
}

static void who_asked_is_gone(void) {
  struct listener listener = begin();
  close(theirs);
  listener_wait(&listener, -1, 10);
  CHECK_TEXT(listener.reason, "profinfer record has ended");
  CHECK_EQUAL(listener.socket, -1);
  /* It goes on, and to nobody nothing is said. */
  listener_wait(&listener, -1, 0);
  listener_attached(&listener, 7);
  CHECK(!listener_is_due(&listener, 1e9));
  CHECK(!listener_over(&listener, "the end"));
  listener_ended(&listener, "the end", 1, 2, 3, 0, 4);
}

static void a_reason_that_was_given_stays(void) {
  struct listener listener = begin();
  say("{\"verb\": \"stop\", \"reason\": \"Ctrl-C\"}");
  listener_wait(&listener, -1, 10);
  close(theirs);
  listener_wait(&listener, -1, 10);
  CHECK_TEXT(listener.reason, "Ctrl-C");
}

static void more_without_a_plan(void) {
  struct listener listener = begin();
  say("{\"verb\": \"more\"}");
  listener_wait(&listener, -1, 10);
  CHECK(listener.wants_more);
  CHECK_EQUAL(listener_take_plan(&listener), -1);
  CHECK(!listener.wants_more);
}

static void more_with_a_plan(void) {
  struct listener listener = begin();
  char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(16))) = {0};
  struct iovec part = {"{\"verb\": \"more\"}", 16};
  struct msghdr head = {&(int){0}, 0, &part, 1, control, sizeof(control), 0};
  struct cmsghdr *item = CMSG_FIRSTHDR(&head);
  int plan, byte = 0;
  write_file("plan", "p", 1);
  plan = open("plan", O_RDONLY);
  *item = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
  memcpy(CMSG_DATA(item), &plan, sizeof(plan));
  CHECK_EQUAL(sendmsg(theirs, &head, 0), 16);
  listener_wait(&listener, -1, 10);
  int fd = listener_take_plan(&listener);
  CHECK(fd >= 0 && read(fd, &byte, 1) == 1 && byte == 'p');
}

static void progress_is_shown_twice_a_second(void) {
  struct listener listener = begin();
  CHECK(listener_is_due(&listener, 0));
  listener_progress(&listener, 0.1, 1000, 1, 2, 3);
  CHECK(!listener_is_due(&listener, 0.59));
  CHECK(listener_is_due(&listener, 0.61));
  json_object *message = heard();
  CHECK_TEXT(message_text(message, "event"), "progress");
  CHECK(message_number(message, "records") == 1000);
  listener.is_shown = false;
  CHECK(!listener_is_due(&listener, 100));
}

static void who_does_not_read_stops_nobody(void) {
  struct listener listener = begin();
  for (int i = 0; i < 10000; i++)
    listener_progress(&listener, i, i, 0, 0, 0);
  /* What he was told first he can still read. */
  CHECK(message_number(heard(), "records") == 0);
  CHECK(message_number(heard(), "records") == 1);
}

static void the_end_waits_for_the_commands(void) {
  struct listener listener = begin();
  say("{\"verb\": \"stop\", \"reason\": \"late\"}");
  say("{\"verb\": \"finish\", \"command_status\": 3}");
  json_object *last = listener_over(&listener, "the duration is over");
  CHECK_EQUAL(message_integer(last, "command_status", INT32_MAX), 3);
  CHECK_TEXT(message_text(heard(), "reason"), "the duration is over");
  listener_ended(&listener, "the duration is over", 1.5, 10, 0, json_object_new_array(), 0.25);
  json_object *message = heard();
  CHECK_TEXT(message_text(message, "event"), "ended");
  CHECK(message_number(message, "cpu_s") == 0.25);
  CHECK(message_number(message, "peak_kb") > 0);
}

static void whoever_listens_is_gone(void) {
  struct listener listener = begin();
  close(listener.socket);
  listener.socket = -1;
  CHECK(!listener_over(&listener, "over"));
}

int main(void) {
  RUN(asked_to_stop);
  RUN(who_asked_is_gone);
  RUN(a_reason_that_was_given_stays);
  RUN(more_without_a_plan);
  RUN(more_with_a_plan);
  RUN(progress_is_shown_twice_a_second);
  RUN(who_does_not_read_stops_nobody);
  RUN(the_end_waits_for_the_commands);
  RUN(whoever_listens_is_gone);
}
