/* SPDX-License-Identifier: Apache-2.0 */
#include "gguf.h"
#include "harness.h"

/* A file that is being made, and read. */
static struct file {
  unsigned char bytes[4096];
  size_t length;
} file;

static void put(uint64_t number, size_t size) {
  for (; size--; number >>= 8)
    file.bytes[file.length++] = number;
}

static void put_text(const char *text) {
  put(strlen(text), 8);
  while (*text)
    put(*text++, 1);
}

static void begin(uint32_t version, uint64_t tensors, uint64_t pairs) {
  file.length = 0;
  for (const char *c = GGUF_MAGIC; *c; c++)
    put(*c, 1);
  put(version, 4);
  put(tensors, 8);
  put(pairs, 8);
}

/* Each kind of value, two tensors, and what comes behind the header. */
static size_t honest(uint32_t version) {
  static const uint8_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  begin(version, 2, 14);
  for (unsigned type = 0; type < sizeof(sizes); type++)
    if (sizes[type]) {
      put_text("key");
      put(type, 4);
      put(1, sizes[type]);
    }
  put_text("general.name");
  put(8, 4);
  put_text("a model");
  put_text("words");
  put(9, 4);
  put(8, 4);
  put(3, 8);
  put_text("one");
  put_text("");
  put_text("three");
  put_text("scores");
  put(9, 4);
  put(6, 4);
  put(5, 8);
  put(0, 8);
  put(0, 8);
  put(0, 4);
  for (unsigned dimensions = 0; dimensions < 2; dimensions++) {
    put_text("blk.0.ffn_up.weight");
    put(4 * dimensions, 4);
    for (unsigned i = 0; i < 4 * dimensions; i++)
      put(UINT64_MAX, 8);
    put(2, 4);
    put(UINT64_MAX, 8);
  }
  size_t header = file.length;
  for (unsigned i = 0; i < 100; i++)
    put(0, 1);
  return header;
}

static ssize_t read_bytes(void *from, void *to, size_t length, uint64_t offset) {
  const struct file *read = from;
  if (offset >= read->length)
    return 0;
  if (length > read->length - offset)
    length = read->length - offset;
  memcpy(to, read->bytes + offset, length);
  return length;
}

static const char *problem;

static uint64_t found(void) {
  /* Just as long: reading on would be noticed. */
  return gguf_header_size(read_bytes, &file, file.length, &problem);
}

#define REFUSED(why)                                                                               \
  do {                                                                                             \
    CHECK_EQUAL(found(), 0);                                                                       \
    CHECK_TEXT(problem, why);                                                                      \
  } while (0)

static void the_end_of_an_honest_header(void) {
  for (uint32_t version = 2; version <= 3; version++) {
    size_t header = honest(version);
    CHECK_EQUAL(found(), header);
    CHECK(!problem);
    file.length = header;
    CHECK_EQUAL(found(), header);
  }
  begin(3, 0, 0);
  CHECK_EQUAL(found(), 24);
}

static void a_file_that_ends_too_early(void) {
  for (size_t header = honest(3); header;) {
    file.length = --header;
    CHECK_EQUAL(found(), 0);
    CHECK(problem);
  }
}

static void other_files(void) {
  begin(1, 0, 0);
  REFUSED("it is of an unknown version of GGUF");
  begin(99, 0, 0);
  REFUSED("it is of an unknown version of GGUF");
  begin(3u << 24, 0, 0);
  REFUSED("its byte order is another machine's");
  memcpy(file.bytes,
         "\x7f"
         "ELF",
         4);
  REFUSED("it does not begin like a GGUF file");
}

static void begin_array(uint32_t type, uint64_t count) {
  begin(3, 0, 1);
  put_text("a");
  put(9, 4);
  put(type, 4);
  put(count, 8);
}

static void lengths_that_cannot_be(void) {
  static const char too_short[] = "it ends in the middle of its header";
  static const uint64_t lengths[] = {101, 1ull << 32, 1ull << 62, 1ull << 63, UINT64_MAX};
  for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
    begin(3, 0, lengths[i]);
    REFUSED(too_short);
    begin(3, lengths[i], 0);
    REFUSED(too_short);
    begin(3, 0, 1);
    put(lengths[i], 8);
    REFUSED(too_short);
    for (uint32_t type = 0; type < 13; type++)
      if (type != 9) {
        begin_array(type, lengths[i]);
        REFUSED(too_short);
      }
    begin_array(8, 1);
    put(lengths[i], 8);
    REFUSED(too_short);
    begin(3, 1, 0);
    put_text("t");
    put(lengths[i], 4);
    REFUSED(too_short);
  }
}

static void values_that_are_not_understood(void) {
  begin_array(9, 1);
  REFUSED("its header has an array of arrays");
  begin_array(13, 1);
  REFUSED("its header has a value of unknown type");
  begin(3, 0, 1);
  put_text("a");
  put(UINT32_MAX, 4);
  REFUSED("its header has a value of unknown type");
}

/* Nothing but nulls behind the beginning. */
static ssize_t read_endless(void *from, void *to, size_t length, uint64_t offset) {
  const struct file *read = from;
  memset(to, 0, length);
  if (offset < read->length)
    read_bytes(from, to, length, offset);
  return length;
}

static void a_header_without_end(void) {
  for (unsigned i = 0; i < 3; i++) {
    if (i == 0)
      begin_array(8, 1ull << 40);
    else
      begin(3, i == 1 ? UINT64_MAX : 0, i == 2 ? UINT64_MAX : 0);
    CHECK_EQUAL(gguf_header_size(read_endless, &file, 1ull << 50, &problem), 0);
    CHECK_TEXT(problem, "its header is longer than 64 MiB");
  }
}

static ssize_t read_nothing(void *from, void *to, size_t length, uint64_t offset) {
  (void)from, (void)to, (void)length, (void)offset;
  return -1;
}

static void a_file_that_cannot_be_read(void) {
  CHECK_EQUAL(gguf_header_size(read_nothing, 0, 1000, &problem), 0);
  CHECK_TEXT(problem, "its header cannot be read");
  /* It was longer when it was looked at. */
  size_t header = honest(3);
  file.length = header / 2;
  CHECK_EQUAL(gguf_header_size(read_bytes, &file, header, &problem), 0);
  CHECK_TEXT(problem, "it ends in the middle of its header");
}

static void any_bytes_changed(void) {
  uint64_t random = 1;
  for (unsigned i = 0; i < 200000; i++) {
    honest(3);
    for (unsigned changes = 0; changes < 3; changes++) {
      random = random * 6364136223846793005ull + 1442695040888963407ull;
      file.bytes[(random >> 33) % file.length] = random >> 56;
    }
    uint64_t header = found();
    CHECK(header <= file.length);
    CHECK(!header == !!problem);
  }
}

int main(void) {
  RUN(the_end_of_an_honest_header);
  RUN(a_file_that_ends_too_early);
  RUN(other_files);
  RUN(lengths_that_cannot_be);
  RUN(values_that_are_not_understood);
  RUN(a_header_without_end);
  RUN(a_file_that_cannot_be_read);
  RUN(any_bytes_changed);
}
