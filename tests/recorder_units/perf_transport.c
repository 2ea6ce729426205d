/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers laid out as include/uapi/linux/perf_event.h says, at every place around their end. */
#include "../../bpf/recorder/perf_transport.c"
#include "harness.h"

#define SIZE 4096
#define MOST 40

static unsigned char data[SIZE];
static struct buffer buffer = {0, data, SIZE, 0};
static uint64_t end; /* where the kernel goes on */

static void put(const void *bytes, size_t length) {
  for (size_t i = 0; i < length; i++)
    data[end++ & (SIZE - 1)] = ((const unsigned char *)bytes)[i];
}

/* A record, as the kernel puts it there: a length that counts the padding, and the padding. */
static void put_sample(unsigned char value, size_t size, uint16_t misc) {
  unsigned char record[512] = {0};
  size_t body = (4 + size + 7) & ~7ul;
  uint32_t length = body - 4;
  struct perf_event_header header = {PERF_RECORD_SAMPLE, misc, sizeof(header) + body};
  memset(record, 0xee, sizeof(record));
  memcpy(record, &length, sizeof(length));
  memset(record + 4, value, size);
  put(&header, sizeof(header));
  put(record, body);
}

static void put_other(uint32_t type, size_t words) {
  uint64_t nothing[4] = {9, 9, 9, 9};
  struct perf_event_header header = {type, 0, sizeof(header) + words * sizeof(*nothing)};
  put(&header, sizeof(header));
  put(nothing, words * sizeof(*nothing));
}

/* What the kernel may put there, `count` pieces of it, from `start` on: its records in order, each
 * whole, and nothing else. */
static void check_mixed(uint64_t start, size_t size, unsigned count, unsigned seed) {
  unsigned char expected[MOST], found[MOST * WIDE_SIZE];
  size_t samples = 0, got = 0;
  uint64_t tail = end = start, dropped = 0;
  buffer.dropped = 0;
  for (unsigned i = 0; i < count; i++) {
    seed = seed * 1103515245 + 12345;
    bool is_sample = seed >> 16 & 1, is_loss = !is_sample && seed >> 17 & 1;
    if (is_sample)
      put_sample(expected[samples++] = seed >> 20, size, seed >> 8);
    else
      put_other(is_loss ? PERF_RECORD_LOST : PERF_RECORD_THROTTLE, 2 + (seed >> 18 & 1));
    dropped += is_loss ? 9 : 0;
  }
  /* However few at a time. */
  while (tail < end)
    got += copy_samples(&buffer, &tail, end, found + got * size, size, 3);
  CHECK_EQUAL(tail, end);
  CHECK_EQUAL(got, samples);
  CHECK_EQUAL(buffer.dropped, dropped);
  for (size_t i = 0; i < samples; i++)
    for (size_t at = 0; at < size; at++)
      CHECK_EQUAL(found[i * size + at], expected[i]);
}

static void records_come_out_whole_and_in_order_between_anything_else(void) {
  static const size_t sizes[] = {sizeof(struct record), WIDE_SIZE};
  for (size_t i = 0; i < 2; i++)
    for (unsigned count = 0; count <= (sizes[i] > 100 ? 11 : MOST); count++)
      for (unsigned at = 0; at < 50; at++)
        check_mixed(5 * SIZE - 8 * at, sizes[i], count, 31 * count + at);
}

static void a_sample_that_is_too_short_is_passed_over(void) {
  unsigned char found[sizeof(struct record)];
  uint64_t tail = end = 0;
  put_sample(1, sizeof(struct record) - 8, 0);
  put_sample(2, sizeof(struct record), 0);
  CHECK_EQUAL(copy_samples(&buffer, &tail, end, found, sizeof(found), 4), 1);
  CHECK_EQUAL(found[0], 2);
}

static void nobody_is_inside_when_all_have_ended(void) {
  struct ring_head head = {.next = 3, .ended = 3};
  CHECK(!is_inside(&head));
  head.next = 4;
  CHECK(is_inside(&head));
}

int main(void) {
  RUN(records_come_out_whole_and_in_order_between_anything_else);
  RUN(a_sample_that_is_too_short_is_passed_over);
  RUN(nobody_is_inside_when_all_have_ended);
}
