/* SPDX-License-Identifier: Apache-2.0 */
#include "failure.h"
#include "message.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static int listener = -1;
static const char *doing = "";

void failure_over(int socket, const char *verb) {
  listener = socket;
  doing = verb;
}

/* Names come from the target: they must not steer the terminal. */
static void write_line(char line[2048], const char *format, va_list arguments) {
  vsnprintf(line, 2048, format, arguments);
  for (char *c = line; *c; c++)
    if ((unsigned char)*c < 0x20 || *c == 0x7f)
      *c = '?';
}

static void say(const char *what, const char *format, va_list arguments) {
  char line[2048];
  write_line(line, format, arguments);
  fprintf(stderr, "%s%s\n", what, line);
}

static void tell_listener(enum exit_code code, const char *hint, const char *line) {
  json_object *message = message_event("failed");
  message_set_text(message, "verb", doing);
  message_set_number(message, "code", code);
  message_set_text(message, "message", line);
  message_set_text(message, "hint", hint);
  message_send(listener, message);
}

void fail(enum exit_code code, const char *hint, const char *format, ...) {
  char line[2048];
  va_list arguments;
  va_start(arguments, format);
  write_line(line, format, arguments);
  va_end(arguments);
  if (listener >= 0) {
    tell_listener(code, hint, line);
    exit(code);
  }
  fprintf(stderr, "profinfer-recorder: %s\n", line);
  if (*hint)
    fprintf(stderr, "hint: %s\n", hint);
  exit(code);
}

void tell(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  say("", format, arguments);
  va_end(arguments);
}

void warn(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  say("profinfer-recorder: warning: ", format, arguments);
  va_end(arguments);
}

void *allocate(size_t count, size_t size) {
  void *memory = calloc(count ? count : 1, size);
  if (!memory)
    fail(EXIT_KERNEL, "", "out of memory");
  return memory;
}

char *text(const char *format, ...) {
  char *made;
  va_list arguments;
  va_start(arguments, format);
  int length = vasprintf(&made, format, arguments);
  va_end(arguments);
  if (length < 0)
    fail(EXIT_KERNEL, "", "out of memory");
  return made;
}
