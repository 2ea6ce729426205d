/* SPDX-License-Identifier: Apache-2.0 */
#include "listener.h"
#include "failure.h"
#include "kernel_types.h"
#include "message.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SHOWN_EVERY 0.5

static void close_all(const int *fds, size_t count) {
  for (size_t i = 0; i < count; i++)
    close(fds[i]);
}

/* What is asked next; 0 when nobody will ask any more. */
static json_object *next(struct listener *listener) {
  int fds[MESSAGE_FDS];
  size_t count;
  json_object *message = message_receive(listener->socket, fds, &count);
  if (!message) {
    /* Whoever asked is gone: what was recorded is made whole for whoever comes. */
    if (!listener->reason)
      listener->reason = "profinfer record has ended";
    close(listener->socket);
    listener->socket = -1;
    return 0;
  }
  const char *verb = message_text(message, "verb");
  if (!strcmp(verb, "stop")) {
    listener->reason = text("%s", message_text(message, "reason"));
  } else if (!strcmp(verb, "leave")) {
    listener->is_left = true;
  } else if (!strcmp(verb, "more")) {
    listener->wants_more = true;
    listener->plan_fd = count ? fds[0] : -1;
    count = 0;
  }
  close_all(fds, count);
  return message;
}

void listener_wait(struct listener *listener, int target, double seconds) {
  struct pollfd waited[] = {{target, POLLIN, 0},
                            {listener->socket, POLLIN, 0}}; /* -1: passed over */
  if (poll(waited, 2, seconds * 1e3 < 1 ? 1 : seconds * 1e3) > 0 && waited[1].revents)
    json_object_put(next(listener));
}

int listener_take_plan(struct listener *listener) {
  int plan_fd = listener->plan_fd;
  listener->wants_more = false;
  listener->plan_fd = -1;
  return plan_fd;
}

void listener_attached(struct listener *listener, size_t probes) {
  if (listener->socket < 0)
    return;
  json_object *message = message_event("attached");
  message_set_number(message, "probes", probes);
  message_send(listener->socket, message);
}

bool listener_is_due(const struct listener *listener, double seconds) {
  return listener->socket >= 0 && listener->is_shown && seconds >= listener->next_shown;
}

void listener_progress(struct listener *listener, double seconds, uint64_t records, uint64_t lost,
                       uint64_t tokens, uint64_t bytes) {
  json_object *message = message_event("progress");
  listener->next_shown = seconds + SHOWN_EVERY;
  message_set_seconds(message, "seconds", seconds);
  message_set_number(message, "records", records);
  message_set_number(message, "lost", lost);
  message_set_number(message, "tokens", tokens);
  message_set_number(message, "bytes", bytes);
  message_offer(listener->socket, message); /* who shows it may be stopped; rings are not */
}

void listener_note(struct listener *listener, const char *note) {
  json_object *message = message_event("note");
  message_set_text(message, "text", note);
  message_offer(listener->socket, message);
}

void listener_silent(struct listener *listener, json_object *symbols) {
  json_object *message = message_event("silent");
  json_object_object_add(message, "symbols", symbols);
  message_send(listener->socket, message);
}

void listener_probe_instead(struct listener *listener, const char *why) {
  json_object *message = message_event("stubs");
  message_set_text(message, "why", why);
  message_send(listener->socket, message);
}

json_object *listener_over(struct listener *listener, const char *reason) {
  json_object *message;
  if (listener->socket < 0)
    return 0;
  message = message_event("over");
  message_set_text(message, "reason", reason);
  message_send(listener->socket, message);
  while ((message = next(listener)) && strcmp(message_text(message, "verb"), "finish"))
    json_object_put(message);
  return message;
}

/* The most memory that this process has had, in KiB. */
static uint64_t peak_kib(void) {
  char line[128];
  unsigned long long found = 0;
  FILE *file = fopen("/proc/self/status", "re");
  while (file && fgets(line, sizeof(line), file) && sscanf(line, "VmHWM: %llu", &found) != 1)
    ;
  if (file)
    fclose(file);
  return found;
}

void listener_ended(struct listener *listener, const char *reason, double seconds, uint64_t records,
                    uint64_t lost, json_object *notes, double cpu_seconds) {
  if (listener->socket < 0)
    return;
  json_object *message = message_event("ended");
  message_set_text(message, "reason", reason);
  message_set_seconds(message, "seconds", seconds);
  message_set_number(message, "records", records);
  message_set_number(message, "lost", lost);
  json_object_object_add(message, "notes", json_object_get(notes));
  message_set_seconds(message, "cpu_s", cpu_seconds);
  message_set_number(message, "peak_kb", peak_kib());
  message_set_number(message, "types_peak_kb", kernel_types_peak_kb());
  message_send(listener->socket, message);
}
