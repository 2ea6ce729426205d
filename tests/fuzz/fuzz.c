/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz.h"

#include <fcntl.h>
#include <json-c/json.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static sigjmp_buf end;
static unsigned first_free; /* descriptor: this and those after it belong to the input */

/* ---- What the recorder's modules have allocated: their objects are made to call these functions
 * in the place of those without fuzz_ (Makefile). */

enum kind { MEMORY, TOKENER, JSON };

static struct {
  void *address;
  enum kind kind;
} * left;
static size_t left_count, left_room;

static void *keep(void *address, enum kind kind) {
  if (!address)
    return 0;
  if (left_count == left_room)
    left = realloc(left, (left_room = 2 * left_room + 64) * sizeof(*left));
  left[left_count].address = address;
  left[left_count++].kind = kind;
  return address;
}

/* The last ones go first, as a rule. */
static bool forget(void *address) {
  for (size_t i = left_count; i--;)
    if (left[i].address == address) {
      left[i] = left[--left_count];
      return true;
    }
  return false;
}

static void free_what_is_left(void) {
  for (size_t i = 0; i < left_count; i++) {
    if (left[i].kind == MEMORY)
      free(left[i].address);
    else if (left[i].kind == TOKENER)
      json_tokener_free(left[i].address);
    else
      json_object_put(left[i].address);
  }
  left_count = 0;
}

void *fuzz_malloc(size_t size);
void *fuzz_calloc(size_t count, size_t size);
void *fuzz_realloc(void *before, size_t size);
void *fuzz_reallocarray(void *before, size_t count, size_t size);
char *fuzz_strdup(const char *from);
char *fuzz_strndup(const char *from, size_t most);
int fuzz_vasprintf(char **made, const char *format, va_list arguments);
void fuzz_free(void *address);
struct json_tokener *fuzz_json_tokener_new(void);
void fuzz_json_tokener_free(struct json_tokener *tokener);
json_object *fuzz_json_tokener_parse_ex(struct json_tokener *tokener, const char *text, int length);
int fuzz_json_object_put(json_object *object);

void *fuzz_malloc(size_t size) { return keep(malloc(size), MEMORY); }
void *fuzz_calloc(size_t count, size_t size) { return keep(calloc(count, size), MEMORY); }

void *fuzz_realloc(void *before, size_t size) {
  forget(before); /* one that cannot grow ends the input anyhow */
  return keep(realloc(before, size), MEMORY);
}

void *fuzz_reallocarray(void *before, size_t count, size_t size) {
  forget(before);
  return keep(reallocarray(before, count, size), MEMORY);
}

char *fuzz_strdup(const char *from) { return keep(strdup(from), MEMORY); }
char *fuzz_strndup(const char *from, size_t most) { return keep(strndup(from, most), MEMORY); }

int fuzz_vasprintf(char **made, const char *format, va_list arguments) {
  int length = vasprintf(made, format, arguments);
  if (length >= 0)
    keep(*made, MEMORY);
  return length;
}

void fuzz_free(void *address) {
  forget(address);
  free(address);
}

struct json_tokener *fuzz_json_tokener_new(void) {
  return keep(json_tokener_new(), TOKENER);
}

void fuzz_json_tokener_free(struct json_tokener *tokener) {
  forget(tokener);
  json_tokener_free(tokener);
}

json_object *fuzz_json_tokener_parse_ex(struct json_tokener *tokener, const char *text,
                                        int length) {
  return keep(json_tokener_parse_ex(tokener, text, length), JSON);
}

int fuzz_json_object_put(json_object *object) {
  int freed = json_object_put(object);
  if (freed)
    forget(object);
  return freed;
}

/* ---- What targets use */

int fuzz_file(const uint8_t *data, size_t size) {
  int fd = memfd_create("input", MFD_CLOEXEC);
  if (fd < 0 || write(fd, data, size) != (ssize_t)size || lseek(fd, 0, SEEK_SET))
    abort();
  return fd;
}

const char *fuzz_path(const uint8_t *data, size_t size) {
  static char path[32];
  snprintf(path, sizeof(path), "/proc/self/fd/%d", fuzz_file(data, size));
  return path;
}

void fuzz_look(const void *data, size_t size) {
  for (size_t i = 0; i < size; i++)
    __asm__ volatile("" ::"r"(((const unsigned char *)data)[i]));
}

void fuzz_look_at_text(const char *text) { fuzz_look(text, strlen(text)); }

void fuzz_end(void) { siglongjmp(end, 1); }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  int free_one = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
  first_free = free_one < 0 ? 3 : free_one;
  if (!sigsetjmp(end, 0))
    fuzz_one(data, size);
  free_what_is_left();
  syscall(SYS_close_range, first_free, ~0u, 0);
  return 0;
}
