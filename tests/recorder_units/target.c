/* SPDX-License-Identifier: Apache-2.0 */
#include "../../bpf/recorder/target.c"
#include "harness.h"

#include <sys/mman.h>

static void check_utf8(const char *bytes, size_t length, const char *wanted) {
  /* A copy without a byte behind it: reading on would be noticed. */
  char *copy = memcpy(malloc(length ? length : 1), bytes, length);
  char *valid = utf8(copy, length);
  CHECK_TEXT(valid, wanted);
  free(valid);
  free(copy);
}

#define UTF8(bytes, wanted) check_utf8(bytes, sizeof(bytes) - 1, wanted)
#define BAD "\xef\xbf\xbd"

static void valid_text_stays(void) {
  UTF8("", "");
  UTF8("llama-server", "llama-server");
  UTF8("\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80");
  UTF8("\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80", "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80");
  UTF8("\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf");
}

static void each_bad_byte_is_replaced(void) {
  UTF8("\xff", BAD);
  UTF8("a\x80z", "a" BAD "z");
  UTF8("\xc0\xaf", BAD BAD);                 /* too long for what it says */
  UTF8("\xe0\x9f\xbf", BAD BAD BAD);         /* so is this */
  UTF8("\xed\xa0\x80", BAD BAD BAD);         /* a surrogate */
  UTF8("\xf4\x90\x80\x80", BAD BAD BAD BAD); /* beyond the last one */
  UTF8("\xf8\x88\x80\x80\x80", BAD BAD BAD BAD BAD);
}

static void sequences_that_are_cut_off(void) {
  UTF8("\xc3", BAD);
  UTF8("\xe2\x82", BAD BAD);
  UTF8("\xf0\x9f\x98", BAD BAD BAD);
  UTF8("\xe2\x82z", BAD BAD "z");
}

static struct mapping parsed(const char *line) {
  struct mapping found = {0};
  CHECK(parse_mapping(line, &found));
  return found;
}

static void an_executable_mapping_of_a_file(void) {
  struct mapping found =
      parsed("7f0c2e400000-7f0c2e5f0000 r-xp 0001f000 fe:00 131234                     /usr/lib/"
             "libggml.so");
  CHECK_EQUAL(found.start, 0x7f0c2e400000);
  CHECK_EQUAL(found.end, 0x7f0c2e5f0000);
  CHECK_EQUAL(found.offset, 0x1f000);
  CHECK_EQUAL(found.inode, 131234);
  CHECK_TEXT(found.device, "fe:00");
  CHECK_TEXT(found.path, "/usr/lib/libggml.so");
  free(found.path);
}

static void a_path_is_everything_to_the_end(void) {
  struct mapping found = parsed("1000-2000 r-xp 00000000 08:01 9   /tmp/two  words (deleted) ");
  CHECK_TEXT(found.path, "/tmp/two  words (deleted) ");
  free(found.path);
  found = parsed("1000-2000 r-xp 00000000 08:01 9   /tmp/a (deleted)");
  CHECK_TEXT(found.path, "/tmp/a");
  free(found.path);
  found = parsed("1000-2000 r-xp 00000000 08:01 9   /tmp/a (deleted) (deleted)");
  CHECK_TEXT(found.path, "/tmp/a (deleted)");
  free(found.path);
  found = parsed("1000-2000 r-xp 00000000 08:01 9  \xff");
  CHECK_TEXT(found.path, BAD);
  free(found.path);
}

static void other_lines_are_none(void) {
  static const char *const lines[] = {
      "",
      "7f0c2e400000-7f0c2e5f0000 r--p 0001f000 fe:00 131234 /usr/lib/libggml.so",
      "7f0c2e400000-7f0c2e5f0000 r-xp 00000000 00:00 0                          [vdso]",
      "7f0c2e400000-7f0c2e5f0000 r-xp 00000000 00:00 0 ",
      "7f0c2e400000-7f0c2e5f0000 r-xp 00000000 fe:00 131234",
      "7f0c2e400000 r-xp 00000000 fe:00 131234 /usr/lib/libggml.so",
      "no such thing",
  };
  struct mapping found;
  for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++)
    CHECK(!parse_mapping(lines[i], &found));
}

static void our_own_mappings_are_found(void) {
  struct target target = target_open(getpid());
  size_t count;
  struct mapping *found = target_mappings(&target, &count);
  bool has_us = false;
  CHECK(count >= 2); /* this program, and libc */
  for (size_t i = 0; i < count; i++) {
    uintptr_t here = (uintptr_t)our_own_mappings_are_found;
    has_us |= found[i].start <= here && here < found[i].end;
    CHECK(i == 0 || found[i].start >= found[i - 1].end);
    free(found[i].path);
  }
  CHECK(has_us);
  free(found);
  close(target.folder);
}

/* More than there is room for at first, and lines that end in the middle of what one read gives. */
static void many_mappings(void) {
  char name[128];
  for (int i = 0; i < 200; i++) {
    snprintf(name, sizeof(name), "mapped-%d-%050d", i, i);
    write_file(name, "12345", 5);
    int fd = open(name, O_RDONLY);
    CHECK(mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) != MAP_FAILED);
    close(fd);
  }
  struct target target = target_open(getpid());
  size_t count, ours = 0;
  struct mapping *found = target_mappings(&target, &count);
  for (size_t i = 0; i < count; i++)
    ours += strstr(found[i].path, "/mapped-") != 0;
  CHECK_EQUAL(ours, 200);
}

static void who_is_not_there(void) {
  CHECK_FAILS(EXIT_TARGET, "process 4194304 does not exist", target_open(4194304));
  pid_t pid = fork();
  if (!pid)
    _exit(0);
  siginfo_t info;
  waitid(P_PID, pid, &info, WEXITED | WNOWAIT);
  CHECK_FAILS(EXIT_TARGET, "has ended", target_open(pid));
  waitpid(pid, 0, 0);
}

int main(void) {
  RUN(valid_text_stays);
  RUN(each_bad_byte_is_replaced);
  RUN(sequences_that_are_cut_off);
  RUN(an_executable_mapping_of_a_file);
  RUN(a_path_is_everything_to_the_end);
  RUN(other_lines_are_none);
  RUN(our_own_mappings_are_found);
  RUN(many_mappings);
  RUN(who_is_not_there);
}
