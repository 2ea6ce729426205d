/* SPDX-License-Identifier: Apache-2.0 */
#include "capture.h"
#include "harness.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define MAGIC_SIZE 16
#define HEADER_SIZE 24

static unsigned char content[1 << 18];

static size_t read_back(const char *name) {
  FILE *file = fopen(name, "r");
  CHECK(file);
  size_t length = fread(content, 1, sizeof(content), file);
  fclose(file);
  return length;
}

static uint64_t word(size_t offset, size_t size) {
  uint64_t value = 0;
  memcpy(&value, content + offset, size);
  return value;
}

#define THREE_FRAMES (MAGIC_SIZE + 3 * HEADER_SIZE + 2 + 9)

static void write_three_frames(void) {
  capture_open("a.raw", -1, false);
  CHECK_EQUAL(capture_size(), 0);
  capture_frame(FRAME_START, 123456789012345, "{}", 2);
  capture_frame(FRAME_RECORDS, UINT64_MAX, 0, 0);
  capture_text(FRAME_NAMES, 7, "{\"1\":\"a\"}");
  CHECK_EQUAL(capture_size(), THREE_FRAMES);
  capture_close();
}

static void frames_stand_one_after_the_other(void) {
  CHECK_APART(write_three_frames());
  CHECK_EQUAL(read_back("a.raw"), THREE_FRAMES);
  CHECK(!memcmp(content, CAPTURE_MAGIC, MAGIC_SIZE - 1));
  CHECK_EQUAL(content[MAGIC_SIZE - 1], CAPTURE_FORMAT);
  CHECK_EQUAL(word(16, 4), FRAME_START);
  CHECK_EQUAL(word(20, 4), 0);
  CHECK_EQUAL(word(24, 8), 123456789012345);
  CHECK_EQUAL(word(32, 8), 2);
  CHECK(!memcmp(content + 40, "{}", 2));
  CHECK_EQUAL(word(42, 4), FRAME_RECORDS);
  CHECK_EQUAL(word(50, 8), UINT64_MAX);
  CHECK_EQUAL(word(58, 8), 0);
  CHECK_EQUAL(word(66, 4), FRAME_NAMES);
  CHECK(!memcmp(content + 90, "{\"1\":\"a\"}", 9));
}

static void it_is_for_its_user_alone(void) {
  struct stat status;
  CHECK(!stat("a.raw", &status));
  CHECK_EQUAL(status.st_mode & 0777, 0600);
}

static void clocks_are_of_one_moment(void) {
  uint64_t before = boot_ns();
  CHECK_APART(capture_open("clocks.raw", -1, false), capture_clocks(), capture_close());
  CHECK_EQUAL(read_back("clocks.raw"), MAGIC_SIZE + HEADER_SIZE + 24);
  CHECK_EQUAL(word(16, 4), FRAME_CLOCK);
  CHECK_EQUAL(word(24, 8), word(40, 8));
  CHECK(word(40, 8) >= before && word(40, 8) <= boot_ns());
}

static void what_is_there_stays_until_the_first_frame(void) {
  write_file("old.raw", "old content", 11);
  CHECK_FAILS(EXIT_OUTPUT, "old.raw exists", capture_open("old.raw", -1, false));
  CHECK_FAILS(EXIT_KERNEL, "why not",
              (capture_open("old.raw", -1, true), fail(EXIT_KERNEL, "", "why not")));
  CHECK_EQUAL(read_back("old.raw"), 11);
  CHECK_APART(capture_open("old.raw", -1, true), capture_frame(FRAME_END, 1, "{}", 2),
              capture_close());
  CHECK_EQUAL(read_back("old.raw"), MAGIC_SIZE + HEADER_SIZE + 2);
}

static void an_empty_one_is_taken_away_again(void) {
  CHECK_FAILS(EXIT_KERNEL, "why not",
              (capture_open("new.raw", -1, false), fail(EXIT_KERNEL, "", "why not")));
  CHECK(access("new.raw", F_OK));
}

static void what_is_empty_needs_no_force(void) {
  write_file("empty.raw", "", 0);
  CHECK_APART(capture_open("empty.raw", -1, false), capture_text(FRAME_END, 1, "{}"),
              capture_close());
  CHECK_EQUAL(read_back("empty.raw"), MAGIC_SIZE + HEADER_SIZE + 2);
  CHECK(!symlink("nowhere", "empty-link.raw"));
  CHECK_FAILS(EXIT_OUTPUT, "empty-link.raw exists", capture_open("empty-link.raw", -1, false));
}

static void what_has_taken_its_place_stays(void) {
  CHECK_FAILS(EXIT_KERNEL, "why not",
              (capture_open("place.raw", -1, false), unlink("place.raw"),
               write_file("place.raw", "another", 7), fail(EXIT_KERNEL, "", "why not")));
  CHECK_EQUAL(read_back("place.raw"), 7);
}

static void places_that_are_no_files(void) {
  CHECK(!symlink("a.raw", "link.raw"));
  CHECK(!mkfifo("pipe.raw", 0600));
  CHECK_FAILS(EXIT_OUTPUT, "is a symbolic link", capture_open("link.raw", -1, true));
  CHECK_FAILS(EXIT_OUTPUT, "cannot write pipe.raw", capture_open("pipe.raw", -1, true));
  CHECK_FAILS(EXIT_OUTPUT, "cannot write .: ", capture_open(".", -1, true));
  CHECK_FAILS(EXIT_OUTPUT, "cannot write none/a.raw: No such file",
              capture_open("none/a.raw", -1, true));
}

/* Of nothing: it takes no room on the disk that it is read from. */
static void grow(void) {
  int nothing = open("nothing", O_RDWR | O_CREAT, 0600);
  CHECK(!ftruncate(nothing, 100 << 20));
  capture_open("large.raw", -1, false);
  for (int i = 1; i <= 5; i++) {
    CHECK(capture_copy(FRAME_RECORDS, i, 0, 0, nothing, 100 << 20));
    const char *said = capture_outgrown();
    CHECK_EQUAL(!!said, i == 4);
    CHECK(!said || strstr(said, "400 MB"));
  }
  CHECK(!unlink("large.raw"));
}

static void that_it_grows_is_said_once(void) { CHECK_APART(grow()); }

/* As on a full disk, the last frame goes only so far. */
static void write_until_it_is_full(size_t limit) {
  static char data[4096];
  struct rlimit size = {limit, limit};
  signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &size);
  capture_open("full.raw", -1, false);
  for (;;)
    capture_frame(FRAME_RECORDS, 1, data, sizeof(data));
}

static void a_full_disk_ends_it_after_a_whole_frame(void) {
  size_t frame = HEADER_SIZE + 4096;
  CHECK_FAILS(EXIT_OUTPUT, "can be converted (12376 bytes)", write_until_it_is_full(16000));
  CHECK_EQUAL(read_back("full.raw"), MAGIC_SIZE + 3 * frame);
  unlink("full.raw");
  /* Full in the middle of a header, and at the very end of a frame. */
  CHECK_FAILS(EXIT_OUTPUT,
              "cannot write full.raw: ", write_until_it_is_full(MAGIC_SIZE + frame + 10));
  CHECK_EQUAL(read_back("full.raw"), MAGIC_SIZE + frame);
  unlink("full.raw");
  CHECK_FAILS(EXIT_OUTPUT,
              "cannot write full.raw: ", write_until_it_is_full(MAGIC_SIZE + 2 * frame));
  CHECK_EQUAL(read_back("full.raw"), MAGIC_SIZE + 2 * frame);
  unlink("full.raw");
  /* Not even the first one. */
  CHECK_FAILS(EXIT_OUTPUT, "can be converted (0 bytes)", write_until_it_is_full(100));
  CHECK(access("full.raw", F_OK));
}

static void it_goes_on_in_a_file_that_is_open(void) {
  int fd = open("given.raw", O_RDWR | O_CREAT | O_EXCL, 0600);
  CHECK_APART(capture_open("the capture", fd, false), capture_text(FRAME_START, 1, "{}"),
              capture_text(FRAME_END, 2, "{}"), capture_close());
  CHECK_EQUAL(read_back("given.raw"), MAGIC_SIZE + 2 * (HEADER_SIZE + 2));
  /* It is not ours to take away. */
  CHECK(!ftruncate(fd, 0) && !lseek(fd, 0, SEEK_SET));
  CHECK_FAILS(EXIT_KERNEL, "why not",
              (capture_open("the capture", fd, false), fail(EXIT_KERNEL, "", "why not")));
  CHECK(!access("given.raw", F_OK));
  close(fd);
}

static void copy_a_file(uint64_t copied, bool is_there) {
  int source = open("source", O_RDONLY);
  capture_open("copy.raw", -1, true);
  capture_text(FRAME_START, 1, "{}");
  CHECK(capture_copy(FRAME_MODEL, 2, "head", 4, source, copied) == is_there);
  capture_text(FRAME_END, 3, "{}");
  capture_close();
}

static void a_frame_holds_what_a_file_does(void) {
  static char data[200000];
  size_t others = MAGIC_SIZE + 2 * (HEADER_SIZE + 2), length = sizeof(data);
  for (size_t i = 0; i < length; i++)
    data[i] = i * 31 >> 3;
  write_file("source", data, length);
  CHECK_APART(copy_a_file(length, true));
  CHECK_EQUAL(read_back("copy.raw"), others + HEADER_SIZE + 4 + length);
  CHECK_EQUAL(word(MAGIC_SIZE + HEADER_SIZE + 2, 4), FRAME_MODEL);
  CHECK_EQUAL(word(MAGIC_SIZE + 2 * HEADER_SIZE + 2 - 8, 8), 4 + length);
  CHECK(!memcmp(content + MAGIC_SIZE + 2 * HEADER_SIZE + 2, "head", 4));
  CHECK(!memcmp(content + MAGIC_SIZE + 2 * HEADER_SIZE + 6, data, length));
  /* It has become shorter: no frame, and the next one follows that before. */
  CHECK_APART(copy_a_file(length + 1, false));
  CHECK_EQUAL(read_back("copy.raw"), others);
  CHECK_EQUAL(word(MAGIC_SIZE + HEADER_SIZE + 2, 4), FRAME_END);
}

int main(void) {
  RUN(frames_stand_one_after_the_other);
  RUN(it_is_for_its_user_alone);
  RUN(clocks_are_of_one_moment);
  RUN(what_is_there_stays_until_the_first_frame);
  RUN(an_empty_one_is_taken_away_again);
  RUN(what_is_empty_needs_no_force);
  RUN(what_has_taken_its_place_stays);
  RUN(places_that_are_no_files);
  RUN(it_goes_on_in_a_file_that_is_open);
  RUN(a_frame_holds_what_a_file_does);
  RUN(that_it_grows_is_said_once);
  RUN(a_full_disk_ends_it_after_a_whole_frame);
}
