/* SPDX-License-Identifier: Apache-2.0 */
#include "regions.h"
#include "harness.h"

#include <fcntl.h>
#include <sys/mman.h>

static struct region parsed(const char *line) {
  /* A copy without a byte behind it: reading on would be noticed. */
  static char *copy;
  size_t length = strlen(line);
  struct region region;
  free(copy);
  copy = memcpy(malloc(length ? length : 1), line, length);
  CHECK(region_parse(copy, length, &region));
  return region;
}

static void check_path(const struct region *region, const char *wanted) {
  CHECK_EQUAL(region->path_length, strlen(wanted));
  CHECK(!memcmp(region->path, wanted, strlen(wanted)));
}

static void a_region_of_a_file(void) {
  struct region region = parsed("7f0c2e400000-7f0c2e5f0000 r-xp 0001f000 fe:1a 131234              "
                                "       /models/a b.gguf");
  CHECK_EQUAL(region.start, 0x7f0c2e400000);
  CHECK_EQUAL(region.end, 0x7f0c2e5f0000);
  CHECK_EQUAL(region.offset, 0x1f000);
  CHECK_EQUAL(region.device, 0xfe << 20 | 0x1a);
  CHECK_EQUAL(region.inode, 131234);
  check_path(&region, "/models/a b.gguf");
  region = parsed("ffffffffff600000-ffffffffff601000 --xp ffffffff00000000 fff:fffff "
                  "18446744073709551615 /a (deleted)");
  CHECK_EQUAL(region.start, 0xffffffffff600000);
  CHECK_EQUAL(region.offset, 0xffffffff00000000);
  CHECK_EQUAL(region.device, UINT32_MAX);
  CHECK_EQUAL(region.inode, UINT64_MAX);
  check_path(&region, "/a");
}

static void memory_of_no_file_has_no_name(void) {
  static const char *const names[] = {"", " ", "   [heap]", "   [anon:words (deleted)]"};
  for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
    char line[128];
    snprintf(line, sizeof(line), "1000-2000 rw-p 00000000 00:00 0%s", names[i]);
    struct region region = parsed(line);
    CHECK_EQUAL(region.inode, 0);
    CHECK_EQUAL(region.path_length, 0);
  }
}

static void other_lines_are_none(void) {
  static const char *const lines[] = {
      "",
      "-",
      "1000",
      "1000-",
      "1000-2000",
      "1000-2000 ",
      "1000-2000 r--",
      "1000-2000 r--p ",
      "1000-2000 r--p 0",
      "1000-2000 r--p 0 8:1",
      "1000-2000 r--p 0 8:1 ",
      "1000-2000 r--p 0 8 9",
      "g000-2000 r--p 0 8:1 9",
      "1000-2000 r--p 0 8:1 0x9",
      "1000 2000 r--p 0 8:1 9",
      " 1-2 r--p 0",
  };
  struct region region;
  for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
    size_t length = strlen(lines[i]);
    char *copy = memcpy(malloc(length ? length : 1), lines[i], length);
    CHECK(!region_parse(copy, length, &region));
    free(copy);
  }
}

static void another_region_is_another_number(void) {
  static const char *const lines[] = {
      "1000-2000 r--p 00000000 08:01 9   /a",
      "1000-3000 r--p 00000000 08:01 9   /a",
      "1000-2000 r--p 00001000 08:01 9   /a",
      "1000-2000 r--p 00000000 08:02 9   /a",
      "1000-2000 r--p 00000000 08:01 8   /a",
      "1000-2000 r--p 00000000 08:01 9   /b",
      "1000-2000 r--p 00000000 08:01 9   /a/a/a/a/a/a/a",
      "1000-2000 r--p 00000000 08:01 9   ",
  };
  const size_t count = sizeof(lines) / sizeof(*lines);
  uint64_t seen[sizeof(lines) / sizeof(*lines)];
  for (size_t i = 0; i < count; i++) {
    struct region region = parsed(lines[i]);
    seen[i] = region_identity(&region);
    for (size_t j = 0; j < i; j++)
      CHECK(seen[i] != seen[j]);
  }
  /* Permissions, and whether it has still a name, make no other one. */
  struct region region = parsed("1000-2000 rwxs 00000000 08:01 9 /a (deleted)");
  CHECK_EQUAL(region_identity(&region), seen[0]);
}

/* A listing from a file: a target's folder is any folder. */
static size_t lines_of(const char *bytes, size_t length, char *last, size_t *last_length) {
  static struct listing listing;
  struct target target = {.folder = AT_FDCWD};
  size_t count = 0, got;
  write_file("maps", bytes, length);
  CHECK(listing_open(&listing, &target));
  for (char *line; (line = listing_next(&listing, &got)); count++) {
    CHECK_EQUAL(strlen(line), got);
    snprintf(last, 64, "%s", line);
    *last_length = got;
  }
  listing_close(&listing);
  return count;
}

static void lines_across_what_is_read_at_once(void) {
  const size_t size = 1 << 20;
  char *bytes = malloc(size), last[64] = "";
  size_t at = 0, lines = 0, length = 0;
  while (at < size - 600) {
    size_t more = lines % 500;
    memset(bytes + at, 'a' + lines % 26, more);
    at += more;
    bytes[at++] = '\n';
    lines++;
  }
  at += sprintf(bytes + at, "the last\n");
  CHECK_EQUAL(lines_of(bytes, at, last, &length), lines + 1);
  CHECK_TEXT(last, "the last");
  CHECK_EQUAL(lines_of("", 0, last, &length), 0);
  CHECK_EQUAL(lines_of("one\ntwo", 7, last, &length), 1); /* it is being written */
  CHECK_TEXT(last, "one");
  memset(bytes, 'x', size);
  CHECK_EQUAL(lines_of(bytes, size, last, &length), 0);
  free(bytes);
}

int main(void) {
  RUN(a_region_of_a_file);
  RUN(memory_of_no_file_has_no_name);
  RUN(other_lines_are_none);
  RUN(another_region_is_another_number);
  RUN(lines_across_what_is_read_at_once);
}
