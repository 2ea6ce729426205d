/* SPDX-License-Identifier: Apache-2.0 */
#include "message.h"
#include "harness.h"

#include <fcntl.h>
#include <sys/socket.h>

static int ours, theirs;

static void begin(void) {
  int ends[2];
  CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends));
  ours = ends[0];
  theirs = ends[1];
}

static void end(void) {
  close(ours);
  close(theirs);
}

static void say(const char *text, const int *fds, size_t count) {
  char control[CMSG_SPACE(MESSAGE_FDS * sizeof(int))] __attribute__((aligned(16))) = {0};
  struct iovec part = {(void *)text, strlen(text)};
  struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1};
  if (count) {
    head.msg_control = control;
    head.msg_controllen = CMSG_SPACE(count * sizeof(int));
    struct cmsghdr *item = CMSG_FIRSTHDR(&head);
    *item = (struct cmsghdr){CMSG_LEN(count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(item), fds, count * sizeof(int));
  }
  CHECK_EQUAL(sendmsg(theirs, &head, 0), strlen(text));
}

static json_object *hear(int *fds, size_t *count) { return message_receive(ours, fds, count); }

static void what_was_sent_is_received(void) {
  int fds[MESSAGE_FDS];
  size_t count;
  char said[256];
  begin();
  json_object *message = message_event("progress");
  message_set_number(message, "records", 1ull << 53);
  message_set_flag(message, "is_last", true);
  message_set_seconds(message, "seconds", 0.5);
  message_set_text(message, "reason", "a \"word\"");
  message_send(theirs, message);
  message = hear(fds, &count);
  CHECK_EQUAL(count, 0);
  CHECK_TEXT(message_text(message, "event"), "progress");
  CHECK_TEXT(message_text(message, "reason"), "a \"word\"");
  CHECK(message_number(message, "records") == 1ull << 53);
  CHECK(message_number(message, "seconds") == 0.5);
  CHECK(message_flag(message, "is_last"));
  json_object_put(message);
  message_send(ours, message_event("over"));
  ssize_t got = recv(theirs, said, sizeof(said), 0);
  CHECK(got == 16 && !memcmp(said, "{\"event\":\"over\"}", 16));
  end();
}

static void messages_keep_apart(void) {
  int fds[MESSAGE_FDS];
  size_t count;
  begin();
  say("{\"verb\": \"go\", \"pid\": 1}", 0, 0);
  say("{\"verb\": \"keep\"}", 0, 0);
  CHECK_TEXT(message_text(hear(fds, &count), "verb"), "go");
  CHECK_TEXT(message_text(hear(fds, &count), "verb"), "keep");
  close(theirs);
  CHECK(!hear(fds, &count));
  CHECK_EQUAL(count, 0);
  close(ours);
}

static void descriptors_ride_along_in_their_order(void) {
  int fds[MESSAGE_FDS], sent[MESSAGE_FDS];
  size_t count;
  begin();
  for (int i = 0; i < MESSAGE_FDS; i++) {
    char name[16];
    snprintf(name, sizeof(name), "fd-%d", i);
    write_file(name, &i, sizeof(i));
    sent[i] = open(name, O_RDONLY);
    CHECK(sent[i] >= 0);
  }
  say("{}", sent, MESSAGE_FDS);
  say("{}", sent, 2);
  CHECK(hear(fds, &count));
  CHECK_EQUAL(count, MESSAGE_FDS);
  for (int i = 0; i < MESSAGE_FDS; i++) {
    int number;
    CHECK(read(fds[i], &number, sizeof(number)) == sizeof(number));
    CHECK_EQUAL(number, i);
    CHECK(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
    close(fds[i]);
    close(sent[i]);
  }
  CHECK(hear(fds, &count));
  CHECK_EQUAL(count, 2);
  end();
}

static void what_is_no_message(void) {
  static const char *const bad[] = {"x",          "[]",    "7",           "\"verb\"",
                                    "{\"verb\":", "{} {}", "{\"a\": 1,}", "null"};
  int fds[MESSAGE_FDS];
  size_t count;
  for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
    CHECK(!message_parse(bad[i], strlen(bad[i])));
    begin();
    say(bad[i], 0, 0);
    CHECK_FAILS(EXIT_USAGE, "a message is no JSON object", hear(fds, &count));
    end();
  }
  CHECK(!message_parse("", 0));
}

static void one_that_is_too_long(void) {
  int fds[MESSAGE_FDS], size = 4 << 20;
  size_t count, length = (1 << 20) + 1;
  begin();
  setsockopt(theirs, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
  setsockopt(theirs, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
  char *blank = malloc(length);
  memset(blank, ' ', length);
  if (send(theirs, blank, length, 0) == (ssize_t)length)
    CHECK_FAILS(EXIT_USAGE, "a message of 1048577 bytes is too long", hear(fds, &count));
  else
    CHECK(geteuid()); /* only root may have such a buffer */
  free(blank);
  end();
}

static void members_of_another_type_are_missing(void) {
  json_object *message = json_tokener_parse(
      "{\"text\": 7, \"number\": \"7\", \"flag\": 1, \"list\": {}, \"null\": null, \"pid\": -1,"
      "\"far\": 4294967296, \"float\": 1e300, \"most\": 2147483647}");
  CHECK_TEXT(message_text(message, "text"), "");
  CHECK_TEXT(message_text(message, "none"), "");
  CHECK_TEXT(message_text(message, "null"), "");
  CHECK(message_number(message, "number") == 0);
  CHECK(!message_flag(message, "flag"));
  CHECK(!message_list(message, "list"));
  CHECK_EQUAL(message_integer(message, "pid", INT32_MAX), 0);
  CHECK_EQUAL(message_integer(message, "far", INT32_MAX), 0);
  CHECK_EQUAL(message_integer(message, "float", INT32_MAX), 0);
  CHECK_EQUAL(message_integer(message, "most", INT32_MAX), INT32_MAX);
}

static void whoever_listened_may_be_gone(void) {
  begin();
  close(theirs);
  message_send(ours, message_event("progress"));
  close(ours);
  message_send(-1, message_event("progress"));
}

/* What fail() says of a verb, where somebody listens. */
static void failures_are_messages_too(void) {
  int fds[MESSAGE_FDS];
  size_t count;
  begin();
  CHECK_FAILS(EXIT_TARGET, "",
              (failure_over(theirs, "record"),
               fail(EXIT_TARGET, "start it", "process %d \033[31m has ended", 7)));
  json_object *message = hear(fds, &count);
  CHECK_TEXT(message_text(message, "event"), "failed");
  CHECK_TEXT(message_text(message, "verb"), "record");
  CHECK_TEXT(message_text(message, "message"), "process 7 ?[31m has ended");
  CHECK_TEXT(message_text(message, "hint"), "start it");
  CHECK(message_number(message, "code") == EXIT_TARGET);
  end();
}

int main(void) {
  RUN(what_was_sent_is_received);
  RUN(messages_keep_apart);
  RUN(descriptors_ride_along_in_their_order);
  RUN(what_is_no_message);
  RUN(one_that_is_too_long);
  RUN(members_of_another_type_are_missing);
  RUN(whoever_listened_may_be_gone);
  RUN(failures_are_messages_too);
}
