/* SPDX-License-Identifier: Apache-2.0 */
#include "report.h"

#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int channel = STDOUT_FILENO;

void report_open(void) {
  int above = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, CHANNEL + 1);
  if (above < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
    report_failure("no descriptor for the answer");
  channel = above;
}

void report_be_heard(void) {
  struct pollfd reader = {.fd = channel};
  if (poll(&reader, 1, 0) > 0 && reader.revents & POLLERR)
    _exit(EXIT_FAILURE);
}

void report_hand_over(void) {
  if (dup2(channel, CHANNEL) < 0)
    report_failure("no descriptor for the answer");
  channel = CHANNEL;
}

/* Paths are strangers' texts: they go into JSON as printable ASCII. */
static void say(const char *key, const char *text) {
  char line[1024];
  size_t length = (size_t)snprintf(line, 64, "{\"%s\": \"", key);
  for (; *text && length < sizeof line - 8; text++) {
    if (*text == '"' || *text == '\\')
      line[length++] = '\\';
    line[length++] = *text < 0x20 || *text > 0x7e ? '?' : *text;
  }
  memcpy(line + length, "\"}\n", 3);
  /* Shorter than what a pipe takes whole. */
  if (write(channel, line, length + 3) < 0)
    _exit(EXIT_FAILURE);
}

void report_failure(const char *format, ...) {
  char text[512];
  va_list values;
  va_start(values, format);
  vsnprintf(text, sizeof text, format, values);
  va_end(values);
  say("error", text);
  _exit(EXIT_SUCCESS);
}

void report_unreadable(const char *name, int error) {
  char text[512];
  snprintf(text, sizeof text, "%.300s: %s", name, strerror(error));
  say("unreadable", text);
  _exit(EXIT_SUCCESS);
}

void *report_allocate(size_t count, size_t size) {
  void *memory = calloc(count ? count : 1, size);
  if (!memory)
    report_failure("out of memory");
  return memory;
}

char *report_text(const char *format, ...) {
  char *made;
  va_list values;
  va_start(values, format);
  int length = vasprintf(&made, format, values);
  va_end(values);
  if (length < 0)
    report_failure("out of memory");
  return made;
}
