/* SPDX-License-Identifier: Apache-2.0 */
#include "evict.h"
#include "harness.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define SIZE (1 << 20)

static void write_model(const char *name, const char *magic) {
  static char bytes[SIZE];
  memset(bytes, 'x', sizeof(bytes));
  memcpy(bytes, magic, strlen(magic));
  write_file(name, bytes, sizeof(bytes));
}

/* The mapping, each of its pages in memory and in our page tables. */
static volatile char *map(const char *name) {
  int fd = open(name, O_RDONLY);
  volatile char *mapped = mmap(0, SIZE, PROT_READ, MAP_SHARED, fd, 0);
  CHECK(fd >= 0 && mapped != MAP_FAILED);
  close(fd);
  for (size_t at = 0; at < SIZE; at += 4096)
    CHECK(mapped[at]);
  return mapped;
}

static json_object *notes;

/* A process whose command line ends in these words, in the current folder. */
static pid_t run(char *const words[], int *input) {
  char *line[32] = {"sh", "-c", "read until_the_end"};
  int ends[2];
  for (size_t i = 0; words[i]; i++)
    line[3 + i] = words[i];
  CHECK(!pipe2(ends, O_CLOEXEC));
  pid_t pid = fork();
  if (!pid) {
    dup2(ends[0], STDIN_FILENO);
    execv("/bin/sh", line);
    _exit(1);
  }
  close(ends[0]);
  *input = ends[1];
  return pid;
}

static void wait_for_program(const struct target *target) {
  for (bool is_there = false; !is_there; usleep(1000)) {
    char *line = target_read(target, "cmdline", 0);
    is_there = line && !strcmp(line, "sh");
    free(line);
  }
}

static json_object *notes;

static json_object *evict_of(char *const words[]) {
  int input;
  pid_t pid = run(words, &input);
  struct target target = target_open(pid);
  wait_for_program(&target);
  notes = json_object_new_array();
  json_object *found = evict(&target, notes);
  close(input);
  waitpid(pid, 0, 0);
  close(target.folder);
  close(target.pidfd);
  return found;
}

#define EVICT(...) evict_of((char *const[]){__VA_ARGS__, 0})

static const char *path(json_object *list, size_t i) {
  json_object *item = json_object_array_get_idx(list, i);
  return json_object_get_string(json_object_object_get(item, "path"));
}

static uint64_t number(json_object *list, size_t i, const char *key) {
  json_object *item = json_object_array_get_idx(list, i);
  return json_object_get_uint64(json_object_object_get(item, key));
}

static void check_evicted(json_object *list, size_t i, const char *name, uint64_t left) {
  CHECK(i < json_object_array_length(list));
  CHECK_TEXT(path(list, i), name);
  CHECK_EQUAL(number(list, i, "bytes"), SIZE);
  CHECK_EQUAL(number(list, i, "left"), left);
}

static void a_named_model_is_dropped_and_other_files_are_left(void) {
  write_model("m.gguf", "GGUF");
  write_model("other", "none");
  CHECK(!mkfifo("fifo", 0600) && !mkdir("folder.gguf", 0700));
  json_object *found = EVICT("llama-cli", "--model=m.gguf", "-x", "other", "fifo", "folder.gguf",
                             "/dev/zero", "", "=", "-=", "--", "m.gguf");
  CHECK_EQUAL(json_object_array_length(found), 1);
  check_evicted(found, 0, "m.gguf", 0);
  CHECK_EQUAL(json_object_array_length(notes), 0);
}

static void a_path_is_as_the_target_sees_it(void) {
  char here[512], word[1024];
  write_model("m.gguf", "GGUF");
  CHECK(getcwd(here, sizeof(here)));
  snprintf(word, sizeof(word), "%s/m.gguf", here);
  check_evicted(EVICT(word), 0, word, 0);
  CHECK(!symlink(word, "link"));
  check_evicted(EVICT("-m", "link"), 0, "link", 0);
  /* Another root has other files, wherever links lead; and no shell. */
  CHECK(!mkdir("root", 0700) && !mkdir("root/m", 0700));
  write_model("root/m/its.gguf", "GGUF");
  CHECK(!symlink("/m/its.gguf", "root/link") && !symlink("/../../m.gguf", "root/out"));
  struct target target = {.folder = open(".", O_RDONLY), .pidfd = -1};
  write_file("maps", "", 0);
  write_file("cmdline", "/link\0/out\0/m/../../m/its.gguf", 30);
  CHECK(!symlink("root", "cwd"));
  json_object *found = evict(&target, json_object_new_array());
  CHECK_EQUAL(json_object_array_length(found), 1);
  check_evicted(found, 0, "/link", 0);
  close(target.folder);
}

static void all_parts_of_a_model_are_dropped(void) {
  write_model("m-00001-of-00003.gguf", "GGUF");
  write_model("m-00002-of-00003.gguf", "GGUF");
  write_model("m-00003-of-00003.gguf", "GGUF");
  json_object *found = EVICT("-m", "m-00002-of-00003.gguf");
  CHECK_EQUAL(json_object_array_length(found), 3);
  check_evicted(found, 0, "m-00001-of-00003.gguf", 0);
  check_evicted(found, 2, "m-00003-of-00003.gguf", 0);
  /* None of so many. */
  write_model("m-00001-of-99999.gguf", "GGUF");
  found = EVICT("m-00001-of-99999.gguf");
  CHECK_EQUAL(json_object_array_length(found), 1);
  check_evicted(found, 0, "m-00001-of-99999.gguf", 0);
}

static void a_mapped_model_is_dropped(void) {
  write_model("m.gguf", "GGUF");
  struct target target = target_open(getpid());
  volatile char *mapped = map("m.gguf");
  json_object *found = evict(&target, json_object_new_array());
  CHECK_EQUAL(json_object_array_length(found), 1);
  CHECK_TEXT(strrchr(path(found, 0), '/'), "/m.gguf");
  CHECK_EQUAL(number(found, 0, "left"), 0);
  munmap((void *)mapped, SIZE);
  close(target.folder);
}

/* They are ours, not the target's. */
static void pages_that_others_hold_stay_and_are_counted(void) {
  write_model("m.gguf", "GGUF");
  volatile char *mapped = map("m.gguf");
  check_evicted(EVICT("m.gguf"), 0, "m.gguf", SIZE);
  CHECK_TEXT(json_object_get_string(json_object_array_get_idx(notes, 0)),
             "1048576 of 1048576 bytes of m.gguf stay in memory");
  munmap((void *)mapped, SIZE);
}

static void nothing_to_evict_is_said(void) {
  CHECK(!symlink("nowhere", "broken.gguf"));
  write_model("none.gguf", "none");
  CHECK_FAILS(EXIT_TARGET, "no GGUF file mapped", EVICT("llama-cli", "broken.gguf"));
  CHECK_FAILS(EXIT_TARGET, "names no GGUF file", EVICT("-m", "none.gguf", "folder.gguf"));
}

int main(void) {
  RUN(a_named_model_is_dropped_and_other_files_are_left);
  RUN(a_path_is_as_the_target_sees_it);
  RUN(all_parts_of_a_model_are_dropped);
  RUN(a_mapped_model_is_dropped);
  RUN(pages_that_others_hold_stay_and_are_counted);
  RUN(nothing_to_evict_is_said);
}
