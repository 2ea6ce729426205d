/* SPDX-License-Identifier: Apache-2.0 */
/* Which files may hold an engine. */
#include "engine_marks.h"
#include "harness.h"
#include "message.h"

#include <fcntl.h>
#include <sys/mman.h>

#define LARGE (3 << 18)

static char path[] = "/tmp/engine_marks.XXXXXX";

static void set(const char *list) {
  json_object *words = json_tokener_parse(list);
  CHECK(words);
  engine_marks_set(words);
  json_object_put(words);
}

/* Whether it is asked about a process that has mapped only this file. */
static bool is_asked(const char *bytes, size_t length) {
  struct target target;
  size_t count, found = 0;
  int fd = open(path, O_RDWR | O_TRUNC);
  CHECK(fd >= 0 && pwrite(fd, bytes, length, 0) == (ssize_t)length);
  void *mapped = mmap(0, length, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
  CHECK(mapped != MAP_FAILED && target_try(getpid(), &target));
  struct mapping *mappings = target_try_mappings(&target, &count);
  while (found < count && strcmp(mappings[found].path, path))
    found++;
  CHECK(found < count);
  bool answer = engine_marks_any(&target, &mappings[found], 1);
  struct stat status;
  CHECK(!fstat(fd, &status));
  CHECK_EQUAL(engine_marks_has_none(&status), !answer);
  status.st_ctim.tv_nsec ^= 1; /* as it was never seen */
  CHECK(!engine_marks_has_none(&status));
  CHECK_EQUAL(engine_marks_any(&target, &mappings[found], 1), answer); /* known by now */
  mappings_free(mappings, count);
  target_close(&target);
  munmap(mapped, length);
  close(fd);
  return answer;
}

static void a_word_is_found_wherever_it_stands(void) {
  static char bytes[LARGE];
  set("[\"ggml_\", \"llama_decode\"]");
  CHECK(!is_asked("nothing", 7));
  CHECK(is_asked("a ggml_b", 8));
  CHECK(!is_asked("a ggml", 6)); /* written to: it is another one now */
  memset(bytes, 'g', sizeof(bytes));
  CHECK(!is_asked(bytes, sizeof(bytes)));
  /* Where pieces meet, too. */
  for (int at = (1 << 18) - 6; at <= 1 << 18; at++) {
    memset(bytes, 'g', sizeof(bytes));
    memcpy(bytes + at, "ggml_", 5);
    CHECK(is_asked(bytes, sizeof(bytes)));
  }
  memset(bytes, 0, sizeof(bytes));
  memcpy(bytes + sizeof(bytes) - 12, "llama_decode", 12);
  CHECK(is_asked(bytes, sizeof(bytes)));
}

static void what_is_passed_over_has_no_mark(void) {
  set("[\"ggml_\"]");
  CHECK(is_asked("ggml_ here", 10));
  engine_marks_pass_over("/nowhere");
  int fd = open(path, O_RDWR | O_TRUNC);
  CHECK(fd >= 0 && write(fd, "ggml_", 5) == 5);
  close(fd);
  engine_marks_pass_over(path);
  struct target target;
  size_t count, found = 0;
  fd = open(path, O_RDONLY);
  void *mapped = mmap(0, 5, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
  CHECK(mapped != MAP_FAILED && target_try(getpid(), &target));
  struct mapping *mappings = target_try_mappings(&target, &count);
  while (found < count && strcmp(mappings[found].path, path))
    found++;
  CHECK(found < count && !engine_marks_any(&target, &mappings[found], 1));
  mappings_free(mappings, count);
  target_close(&target);
  munmap(mapped, 5);
  close(fd);
}

static void without_words_everybody_is_asked_about(void) {
  set("[]");
  CHECK(is_asked("nothing", 7));
  engine_marks_set(0);
  CHECK(is_asked("nothing", 7));
}

int main(void) {
  close(mkstemp(path));
  RUN(a_word_is_found_wherever_it_stands);
  RUN(what_is_passed_over_has_no_mark);
  RUN(without_words_everybody_is_asked_about);
  unlink(path);
}
