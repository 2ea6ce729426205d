/* SPDX-License-Identifier: Apache-2.0 */
#include "mappings.h"
#include "capture.h"
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* ---- What is written comes here, instead of into a capture */

static json_object *fresh, *gone; /* of all frames since they were taken */
static unsigned frames;
static size_t longest;
static uint64_t last_ts;

static void append(json_object *to, json_object *from) {
  for (size_t i = 0; i < json_object_array_length(from); i++)
    json_object_array_add(to, json_object_get(json_object_array_get_idx(from, i)));
}

void capture_text(enum frame_kind kind, uint64_t ts, const char *json) {
  json_object *frame = json_tokener_parse(json);
  CHECK(frame);
  CHECK_EQUAL(kind, FRAME_MAPPINGS);
  CHECK(frames ? ts == last_ts : ts > last_ts);
  append(fresh, json_object_object_get(frame, "new"));
  append(gone, json_object_object_get(frame, "gone"));
  last_ts = ts;
  longest = strlen(json) > longest ? strlen(json) : longest;
  frames++;
  json_object_put(frame);
}

void capture_frame(enum frame_kind kind, uint64_t ts, const void *data, size_t length) {
  (void)kind, (void)ts, (void)data, (void)length;
  abort();
}

bool capture_copy(enum frame_kind kind, uint64_t ts, const void *data, size_t length, int source,
                  uint64_t copied) {
  (void)kind, (void)ts, (void)data, (void)length, (void)source, (void)copied;
  abort();
}

uint64_t boot_ns(void) { return last_ts + 1; }

static struct mappings looker;
static struct target target;

static void look(void) {
  json_object_put(fresh);
  json_object_put(gone);
  fresh = json_object_new_array();
  gone = json_object_new_array();
  frames = 0;
  longest = 0;
  mappings_look(&looker);
}

static void begin(void) {
  target = target_open(getpid());
  looker = mappings_open(&target);
  look();
  CHECK(frames > 0);
  CHECK_EQUAL(json_object_array_length(gone), 0);
}

static void end(void) {
  mappings_close(&looker);
  close(target.folder);
  close(target.pidfd);
}

/* ---- Files and mappings of ours */

#define SIZE 65536

static void write_model(const char *name, const char *magic) {
  static char bytes[SIZE];
  memcpy(bytes, magic, 4);
  write_file(name, bytes, sizeof(bytes));
}

static void *map(const char *name) {
  int fd = open(name, O_RDONLY);
  void *mapped = mmap(0, SIZE, PROT_READ, MAP_SHARED, fd, 0);
  CHECK(fd >= 0 && mapped != MAP_FAILED);
  close(fd);
  return mapped;
}

static uint64_t number(json_object *of, const char *key) {
  return json_object_get_uint64(json_object_object_get(of, key));
}

static json_object *at(json_object *list, const void *address) {
  for (size_t i = 0; i < json_object_array_length(list); i++) {
    json_object *item = json_object_array_get_idx(list, i);
    if (number(item, "start") == (uintptr_t)address)
      return item;
  }
  return 0;
}

static const char *path_of(json_object *mapping) {
  const char *path = json_object_get_string(json_object_object_get(mapping, "path"));
  return strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
}

static const char *model_name(size_t i) { return strrchr(looker.models.list[i].path, '/') + 1; }

/* ---- Tests */

static void they_tell_what_came_and_went(void) {
  struct stat status;
  write_model("m.gguf", "GGUF");
  CHECK(!stat("m.gguf", &status));
  begin();
  void *mapped = map("m.gguf");
  look();
  json_object *found = at(fresh, mapped);
  CHECK(found);
  CHECK_EQUAL(number(found, "end") - number(found, "start"), SIZE);
  CHECK_EQUAL(number(found, "offset"), 0);
  CHECK_EQUAL(number(found, "inode"), status.st_ino);
  CHECK_TEXT(path_of(found), "m.gguf");
  CHECK_EQUAL(looker.models.count, 1);
  CHECK_TEXT(model_name(0), "m.gguf");
  munmap(mapped, SIZE);
  look();
  CHECK(at(gone, mapped));
  CHECK(!at(fresh, mapped));
  CHECK_EQUAL(looker.models.count, 1);
  end();
}

/* A look takes memory of its own now and then, but not each. */
static void when_nothing_changes_a_frame_is_empty(void) {
  unsigned empty = 0;
  begin();
  for (unsigned i = 0; i < 50; i++) {
    look();
    CHECK_EQUAL(frames, 1);
    empty += !json_object_array_length(fresh) && !json_object_array_length(gone);
  }
  CHECK(empty > 25);
  end();
}

static void a_glance_looks_when_there_is_more_or_less(void) {
  write_model("m.gguf", "GGUF");
  begin();
  unsigned skipped = 0;
  for (unsigned i = 0; i < 50; i++) {
    frames = 0;
    mappings_glance(&looker);
    skipped += !frames;
  }
  CHECK(skipped > 25);
  void *mapped = map("m.gguf");
  frames = 0;
  mappings_glance(&looker);
  CHECK_EQUAL(frames, 1);
  CHECK(at(fresh, mapped));
  munmap(mapped, SIZE);
  frames = 0;
  mappings_glance(&looker);
  CHECK_EQUAL(frames, 1);
  CHECK(at(gone, mapped));
  end();
}

static void a_part_of_a_mapping_is_another_one(void) {
  write_model("m.gguf", "GGUF");
  begin();
  char *mapped = map("m.gguf");
  look();
  munmap(mapped + SIZE / 2, SIZE / 2);
  look();
  CHECK(at(gone, mapped));
  CHECK_EQUAL(number(at(fresh, mapped), "end"), (uintptr_t)mapped + SIZE / 2);
  munmap(mapped, SIZE / 2);
  end();
}

static void memory_of_no_file_is_told(void) {
  const size_t size = 64 << 20;
  begin();
  char *mapped = mmap(0, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  look();
  bool is_told = false;
  for (size_t i = 0; i < json_object_array_length(fresh); i++) {
    json_object *item = json_object_array_get_idx(fresh, i);
    is_told |= number(item, "start") <= (uintptr_t)mapped &&
               number(item, "end") >= (uintptr_t)mapped + size && !number(item, "inode") &&
               !*path_of(item);
  }
  CHECK(is_told);
  munmap(mapped, size);
  end();
}

static void a_name_cannot_pass_for_other_mappings(void) {
  static const char *const ends[] = {"\x0b", "\x1c", "\xc2\x85", "\xe2\x80\xa8", "\r",
                                     "\n",   "\"",   "\\",       "\xff",         "\x7f"};
  for (size_t i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
    char name[128];
    snprintf(name, sizeof(name), "a%s1000-2000 r--p 00000000 08:01 77 \x1b[31mfake", ends[i]);
    write_model(name, "none");
    begin();
    void *mapped = map(name);
    look();
    CHECK(strstr(path_of(at(fresh, mapped)), "1000-2000 r--p 00000000 08:01 77 \x1b[31mfake"));
    CHECK(!at(fresh, (void *)0x1000));
    munmap(mapped, SIZE);
    end();
    unlink(name);
  }
}

static void a_deleted_model_is_read_where_it_was(void) {
  char magic[4];
  write_model("m.gguf", "GGUF");
  begin();
  void *mapped = map("m.gguf");
  unlink("m.gguf");
  write_model("m.gguf", "none"); /* another file by that name */
  look();
  CHECK_EQUAL(looker.models.count, 1);
  CHECK_TEXT(model_name(0), "m.gguf");
  CHECK_EQUAL(pread(looker.models.list[0].fd, magic, 4, 0), 4);
  CHECK(!memcmp(magic, "GGUF", 4));
  munmap(mapped, SIZE);
  end();
}

static void a_file_that_becomes_a_model_is_seen_when_it_is_mapped_again(void) {
  write_model("m.gguf", "none");
  begin();
  void *mapped = map("m.gguf");
  look();
  CHECK_EQUAL(looker.models.count, 0);
  munmap(mapped, SIZE);
  look();
  write_model("m.gguf", "GGUF"); /* the same inode, as that of a deleted file may be */
  for (unsigned i = 0; i < 2; i++) {
    mapped = map("m.gguf");
    look();
    CHECK_EQUAL(looker.models.count, 1);
    munmap(mapped, SIZE);
    look();
  }
  end();
}

/* As many as are held open, and two more; then as many as cannot be opened. */
static void a_model_too_many_is_named(void) {
  enum { MANY = 258 };
  void *mapped[MANY];
  char name[32];
  struct rlimit usual, few;
  begin();
  for (unsigned i = 0; i < MANY; i++) {
    snprintf(name, sizeof(name), "%u.gguf", i);
    write_model(name, "GGUF");
    mapped[i] = map(name);
    look();
  }
  CHECK_EQUAL(looker.models.count, MANY);
  CHECK_EQUAL(looker.models.held, 256);
  for (unsigned i = 0; i < MANY; i++) {
    CHECK_EQUAL(looker.models.list[i].fd < 0, i >= 256);
    if (i >= 256)
      CHECK_TEXT(looker.models.list[i].problem, "only 256 models are looked into");
  }
  mappings_close(&looker);
  CHECK(!getrlimit(RLIMIT_NOFILE, &usual));
  few = usual;
  few.rlim_cur = open("/dev/null", O_RDONLY) + 1; /* the last one is the listing's */
  close(few.rlim_cur - 1);
  CHECK(!setrlimit(RLIMIT_NOFILE, &few));
  looker = mappings_open(&target);
  look();
  CHECK(!setrlimit(RLIMIT_NOFILE, &usual));
  CHECK_EQUAL(looker.models.held, 0);
  CHECK_EQUAL(looker.models.count, MANY);
  CHECK_TEXT(looker.models.list[0].problem, "cannot be opened: Too many open files");
  for (unsigned i = 0; i < MANY; i++)
    munmap(mapped[i], SIZE);
  end();
}

static void a_device_and_a_short_file_are_no_models(void) {
  begin();
  int zero = open("/dev/zero", O_RDONLY);
  void *mapped = mmap(0, SIZE, PROT_READ, MAP_PRIVATE, zero, 0);
  write_file("short.gguf", "GGU", 3);
  void *also = map("short.gguf");
  look();
  CHECK(at(fresh, mapped) && at(fresh, also));
  CHECK_EQUAL(looker.models.count, 0);
  munmap(mapped, SIZE);
  munmap(also, SIZE);
  close(zero);
  end();
}

/* One look, several frames; and not much is remembered of each. */
static void very_many_mappings(void) {
  enum { MANY = 60000 };
  const size_t page = sysconf(_SC_PAGESIZE);
  write_model("m.gguf", "none");
  int fd = open("m.gguf", O_RDONLY);
  begin();
  /* Never two that the kernel would join. */
  char *all = mmap(0, MANY * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(all != MAP_FAILED);
  size_t made = 0;
  while (made < MANY && mmap(all + made * page, page, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd,
                             made % 2 * 2 * page) != MAP_FAILED)
    made++;
  CHECK(made > 10000);
  look();
  size_t told = 0;
  for (size_t i = 0; i < json_object_array_length(fresh); i++)
    told += !strcmp(path_of(json_object_array_get_idx(fresh, i)), "m.gguf");
  CHECK_EQUAL(told, made);
  CHECK(frames > 10 && longest < 200000);
  CHECK(looker.room * sizeof(*looker.known) <= 16 * 2 * 65536);
  munmap(all, MANY * page);
  look();
  CHECK(json_object_array_length(gone) >= made);
  close(fd);
  end();
}

static void of_a_process_that_has_ended_nothing_is_said(void) {
  siginfo_t info;
  pid_t pid = fork();
  if (!pid) {
    pause();
    _exit(0);
  }
  target = target_open(pid);
  looker = mappings_open(&target);
  look();
  CHECK_EQUAL(frames, 1);
  kill(pid, SIGKILL);
  waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
  look();
  CHECK_EQUAL(frames, 0);
  waitpid(pid, 0, 0);
  look();
  CHECK_EQUAL(frames, 0);
  end();
}

int main(void) {
  RUN(they_tell_what_came_and_went);
  RUN(when_nothing_changes_a_frame_is_empty);
  RUN(a_glance_looks_when_there_is_more_or_less);
  RUN(a_part_of_a_mapping_is_another_one);
  RUN(memory_of_no_file_is_told);
  RUN(a_name_cannot_pass_for_other_mappings);
  RUN(a_deleted_model_is_read_where_it_was);
  RUN(a_file_that_becomes_a_model_is_seen_when_it_is_mapped_again);
  RUN(a_model_too_many_is_named);
  RUN(a_device_and_a_short_file_are_no_models);
  RUN(very_many_mappings);
  RUN(of_a_process_that_has_ended_nothing_is_said);
}
