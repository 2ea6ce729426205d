/* SPDX-License-Identifier: Apache-2.0 */
#include "models.h"
#include "capture.h"
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define START_SIZE (16 + 24 + 2)
#define HEADER_SIZE 24

static unsigned char content[1 << 20];
static size_t length;

static void read_back(const char *name) {
  FILE *file = fopen(name, "r");
  CHECK(file);
  length = fread(content, 1, sizeof(content), file);
  fclose(file);
}

/* A frame of the capture that was read. */
struct frame {
  uint32_t kind;
  const unsigned char *data;
  size_t length;
};

static struct frame next_frame(size_t *at) {
  struct frame frame = {.data = content + *at + HEADER_SIZE};
  uint64_t bytes;
  CHECK(*at + HEADER_SIZE <= length);
  memcpy(&frame.kind, content + *at, 4);
  memcpy(&bytes, content + *at + 16, 8);
  frame.length = bytes;
  *at += HEADER_SIZE + bytes;
  CHECK(*at <= length);
  return frame;
}

/* A GGUF file whose header has a name of so many bytes, and more behind it; the header's size. */
static size_t write_model(const char *name, size_t name_length) {
  static unsigned char bytes[1 << 19];
  const uint64_t words[] = {0, 1, 1};
  const uint32_t version = 3, type = 8;
  size_t at = 0;
  memset(bytes, 'n', sizeof(bytes));
  memcpy(bytes, "GGUF", 4);
  memcpy(bytes + 4, &version, 4);
  memcpy(bytes + 8, words, 24);
  at = 32;
  bytes[at++] = 'k';
  memcpy(bytes + at, &type, 4);
  memcpy(bytes + at + 4, &name_length, 8);
  at += 12 + name_length;
  write_file(name, bytes, at + 1000);
  return at;
}

static struct model opened(const char *name) {
  return (struct model){
      .device = 0xfe00001, .inode = 1ull << 63, .path = (char *)name, .fd = open(name, O_RDONLY)};
}

static void begin(const char *name) {
  capture_open(name, -1, false);
  capture_text(FRAME_START, 1, "{}");
}

static json_object *said(const struct frame *frame) {
  uint32_t bytes;
  memcpy(&bytes, frame->data, 4);
  CHECK(4 + bytes <= frame->length);
  char *json = strndup((const char *)frame->data + 4, bytes);
  json_object *found = json_tokener_parse(json);
  CHECK(found);
  free(json);
  return found;
}

static json_object *of(json_object *object, const char *key) {
  json_object *value;
  CHECK(json_object_object_get_ex(object, key, &value));
  return value;
}

static const unsigned char *header_of(const struct frame *frame, size_t *bytes) {
  uint32_t json;
  memcpy(&json, frame->data, 4);
  *bytes = frame->length - 4 - json;
  return frame->data + 4 + json;
}

static void write_three(void) {
  struct model list[] = {opened("m.gguf"),
                         opened("bad.gguf"),
                         {.path = "/\"\x01.gguf", .fd = -1, .problem = "cannot be opened: why"}};
  list[0].is_overlaid = true;
  begin("a.raw");
  models_write(&(struct models){.list = list, .count = 3, .held = 2});
  capture_close();
}

static void a_frame_says_what_it_is_and_has_the_header(void) {
  size_t at = START_SIZE, header = write_model("m.gguf", 200000), bytes;
  write_file("bad.gguf", "GGUF\3\0\0\0", 8);
  CHECK_APART(write_three());
  read_back("a.raw");
  struct frame frame = next_frame(&at);
  json_object *model = said(&frame);
  CHECK_EQUAL(frame.kind, FRAME_MODEL);
  CHECK_TEXT(json_object_get_string(of(model, "path")), "m.gguf");
  CHECK_EQUAL(json_object_get_uint64(of(model, "device")), 0xfe00001);
  CHECK_EQUAL(json_object_get_uint64(of(model, "inode")), 1ull << 63);
  CHECK_EQUAL(json_object_get_uint64(of(model, "size")), header + 1000);
  CHECK(json_object_get_boolean(of(model, "overlaid")));
  CHECK(!of(model, "problem"));
  const unsigned char *copied = header_of(&frame, &bytes);
  CHECK_EQUAL(bytes, header);
  CHECK(!memcmp(copied, "GGUF\3\0\0\0", 8) && copied[bytes - 1] == 'n');
  frame = next_frame(&at);
  model = said(&frame);
  CHECK_TEXT(json_object_get_string(of(model, "problem")), "it ends in the middle of its header");
  CHECK_EQUAL(json_object_get_uint64(of(model, "size")), 8);
  CHECK(!json_object_get_boolean(of(model, "overlaid")));
  header_of(&frame, &bytes);
  CHECK_EQUAL(bytes, 0);
  frame = next_frame(&at);
  model = said(&frame);
  CHECK_TEXT(json_object_get_string(of(model, "problem")), "cannot be opened: why");
  CHECK_TEXT(json_object_get_string(of(model, "path")), "/\"\x01.gguf");
  CHECK_EQUAL(at, length);
}

static void copy_too_much(void) {
  write_file("short", "12345", 5);
  int fd = open("short", O_RDONLY);
  begin("short.raw");
  CHECK(!capture_copy(FRAME_MODEL, 1, "head", 4, fd, 6));
  CHECK_EQUAL(errno, ENODATA);
  CHECK_EQUAL(capture_size(), START_SIZE);
  CHECK(capture_copy(FRAME_MODEL, 1, "head", 4, fd, 5));
  CHECK(!capture_copy(FRAME_MODEL, 1, "head", 4, -1, 5));
  CHECK_EQUAL(errno, EBADF);
  CHECK_EQUAL(capture_size(), START_SIZE + HEADER_SIZE + 9);
  capture_close();
}

static void what_cannot_be_copied_leaves_no_frame(void) {
  CHECK_APART(copy_too_much());
  size_t at = START_SIZE;
  read_back("short.raw");
  struct frame frame = next_frame(&at);
  CHECK(!memcmp(frame.data, "head12345", 9));
  CHECK_EQUAL(at, length);
}

static void write_until_it_is_full(void) {
  struct rlimit limit = {100000, 100000};
  struct model model = opened("m.gguf");
  signal(SIGXFSZ, SIG_IGN);
  begin("full.raw");
  CHECK(!setrlimit(RLIMIT_FSIZE, &limit));
  models_write(&(struct models){.list = &model, .count = 1, .held = 1});
}

static void a_full_disk_leaves_whole_frames(void) {
  write_model("m.gguf", 200000);
  CHECK_FAILS(EXIT_OUTPUT, "cannot write full.raw: File too large", write_until_it_is_full());
  read_back("full.raw");
  CHECK_EQUAL(length, START_SIZE);
}

int main(void) {
  RUN(a_frame_says_what_it_is_and_has_the_header);
  RUN(what_cannot_be_copied_leaves_no_frame);
  RUN(a_full_disk_leaves_whole_frames);
}
