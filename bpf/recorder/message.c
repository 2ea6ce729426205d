/* SPDX-License-Identifier: Apache-2.0 */
#include "message.h"
#include "failure.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_MESSAGE (1u << 20)

static void say(int socket, json_object *message, int flags) {
  const char *said = json_object_to_json_string_ext(message, JSON_C_TO_STRING_PLAIN);
  while (send(socket, said, strlen(said), MSG_NOSIGNAL | flags) < 0 && errno == EINTR)
    ;
  json_object_put(message);
}

void message_send(int socket, json_object *message) { say(socket, message, 0); }

void message_offer(int socket, json_object *message) { say(socket, message, MSG_DONTWAIT); }

json_object *message_parse(const char *bytes, size_t length) {
  json_tokener *tokener = json_tokener_new();
  if (!tokener)
    fail(EXIT_KERNEL, "", "out of memory");
  json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
  json_object *found = json_tokener_parse_ex(tokener, bytes, length);
  bool is_whole = json_tokener_get_error(tokener) == json_tokener_success;
  json_tokener_free(tokener);
  if (found && (!is_whole || !json_object_is_type(found, json_type_object))) {
    json_object_put(found);
    found = 0;
  }
  return found;
}

/* Takes the descriptors out of a message's ancillary data. */
static size_t take_descriptors(struct msghdr *head, int *fds) {
  size_t count = 0;
  for (struct cmsghdr *part = CMSG_FIRSTHDR(head); part; part = CMSG_NXTHDR(head, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
      continue;
    size_t here = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds + count, CMSG_DATA(part), here * sizeof(int));
    count += here;
  }
  return count;
}

json_object *message_receive(int socket, int *fds, size_t *count) {
  char control[CMSG_SPACE(MESSAGE_FDS * sizeof(int))] __attribute__((aligned(16)));
  /* Its length first: most are short, and the memory is the recorder's. */
  ssize_t length = recv(socket, 0, 0, MSG_PEEK | MSG_TRUNC);
  while (length < 0 && errno == EINTR)
    length = recv(socket, 0, 0, MSG_PEEK | MSG_TRUNC);
  *count = 0;
  if (length <= 0)
    return 0;
  if (length > MAX_MESSAGE)
    fail(EXIT_USAGE, "", "a message of %zd bytes is too long", length);
  char *bytes = allocate(length + 1, 1);
  struct iovec part = {bytes, length};
  struct msghdr head = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
  length = recvmsg(socket, &head, MSG_CMSG_CLOEXEC);
  if (length > 0)
    *count = take_descriptors(&head, fds);
  json_object *found = length > 0 ? message_parse(bytes, length) : 0;
  free(bytes);
  if (length > 0 && !found)
    fail(EXIT_USAGE, "", "a message is no JSON object");
  return found;
}

json_object *message_event(const char *name) {
  json_object *message = json_object_new_object();
  message_set_text(message, "event", name);
  return message;
}

static json_object *member(json_object *message, const char *name, enum json_type type) {
  json_object *found = 0;
  bool is_there = json_object_object_get_ex(message, name, &found);
  return is_there && json_object_is_type(found, type) ? found : 0;
}

const char *message_text(json_object *message, const char *name) {
  json_object *found = member(message, name, json_type_string);
  return found ? json_object_get_string(found) : "";
}

double message_number(json_object *message, const char *name) {
  json_object *found = member(message, name, json_type_int);
  if (!found)
    found = member(message, name, json_type_double);
  return found ? json_object_get_double(found) : 0;
}

int64_t message_integer(json_object *message, const char *name, int64_t most) {
  json_object *found = member(message, name, json_type_int);
  int64_t value = found ? json_object_get_int64(found) : 0;
  return value >= 0 && value <= most ? value : 0;
}

bool message_flag(json_object *message, const char *name) {
  json_object *found = member(message, name, json_type_boolean);
  return found && json_object_get_boolean(found);
}

json_object *message_list(json_object *message, const char *name) {
  return member(message, name, json_type_array);
}

void message_set_text(json_object *message, const char *name, const char *value) {
  json_object_object_add(message, name, json_object_new_string(value));
}

void message_set_number(json_object *message, const char *name, uint64_t value) {
  json_object_object_add(message, name, json_object_new_int64(value));
}

void message_set_flag(json_object *message, const char *name, bool value) {
  json_object_object_add(message, name, json_object_new_boolean(value));
}

void message_set_seconds(json_object *message, const char *name, double value) {
  json_object_object_add(message, name, json_object_new_double(value));
}
