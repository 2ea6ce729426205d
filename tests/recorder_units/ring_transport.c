/* SPDX-License-Identifier: Apache-2.0 */
/* Files in memory stand in for the maps: to whoever maps them they are the same. */
#include "harness.h"
#include "rings.h"

#include <sys/mman.h>

#define CPUS 2
#define SLOTS 128 /* a page */
#define SIZE (SLOTS * sizeof(struct record))

static struct ring_head *heads;
static struct record *slots;
static struct rings rings;

static void *make(int *fd, size_t size) {
  *fd = memfd_create("map", 0);
  CHECK(*fd >= 0 && !ftruncate(*fd, size));
  void *start = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
  CHECK(start != MAP_FAILED);
  return start;
}

static void begin(void) {
  int heads_fd, slots_fd;
  heads = make(&heads_fd, sysconf(_SC_PAGESIZE));
  slots = make(&slots_fd, CPUS * SIZE);
  rings = ring_transport(heads_fd, slots_fd, NO_WIDE, CPUS, SIZE, 0);
}

/* A handler takes a slot, and fills it (or is interrupted before it does). */
static void take_slot(unsigned cpu, bool fills) {
  uint64_t number = heads[cpu].next++;
  if (fills)
    slots[cpu * SLOTS + number % SLOTS] =
        (struct record){.ts = number, .cpu = cpu, .mark = (uint8_t)(number / SLOTS + 1)};
}

static uint64_t expected; /* the number of the record that must come next */
static unsigned expected_cpu;

static void check_order(void *context, const struct record *records, size_t count) {
  (void)context;
  for (size_t i = 0; i < count; i++, expected++) {
    CHECK_EQUAL(records[i].ts, expected);
    CHECK_EQUAL(records[i].cpu, expected_cpu);
  }
}

/* Drains a CPU: exactly the records from..until come, in order. */
static enum seen drains(unsigned cpu, uint64_t from, uint64_t until) {
  expected = from;
  expected_cpu = cpu;
  enum seen seen = rings_drain(&rings, cpu, check_order, 0);
  CHECK_EQUAL(expected, until);
  return seen;
}

static void each_cpu_has_its_own(void) {
  begin();
  for (int i = 0; i < 5; i++)
    take_slot(0, true);
  take_slot(1, true);
  CHECK(rings_fill(&rings) == 5.0 / SLOTS);
  CHECK_EQUAL(drains(0, 0, 5), SEEN_ALL);
  CHECK_EQUAL(drains(0, 5, 5), SEEN_ALL);
  CHECK_EQUAL(drains(1, 0, 1), SEEN_ALL);
  CHECK(rings_fill(&rings) == 0);
}

static void one_that_is_begun_after_another_is_another(void) {
  begin();
  take_slot(0, true);
  take_slot(0, false);
  CHECK_EQUAL(drains(0, 0, 1), SEEN_UNTIL_NEW);
  slots[1] = (struct record){.ts = 1, .mark = 1};
  take_slot(0, false);
  CHECK_EQUAL(drains(0, 1, 2), SEEN_UNTIL_NEW);
  CHECK_EQUAL(drains(0, 2, 2), SEEN_UNTIL_OLD);
}

static void an_unfinished_record_stops_the_drain(void) {
  begin();
  take_slot(1, true);
  take_slot(1, false);
  take_slot(1, true);
  CHECK_EQUAL(drains(1, 0, 1), SEEN_UNTIL_NEW);
  CHECK_EQUAL(heads[1].taken, 1);
  CHECK_EQUAL(drains(1, 1, 1), SEEN_UNTIL_OLD);
  slots[SLOTS + 1] = (struct record){.ts = 1, .cpu = 1, .mark = 1};
  CHECK_EQUAL(drains(1, 1, 3), SEEN_ALL);
}

/* Marks have 8 bits: laps are told apart also where they begin again. */
static void around_the_end_and_through_all_marks(void) {
  begin();
  uint64_t number = 0;
  while (number < 300 * SLOTS) {
    for (int i = 0; i < 100; i++)
      take_slot(0, true);
    CHECK_EQUAL(drains(0, number, number + 100), SEEN_ALL);
    number += 100;
  }
  take_slot(0, false); /* what stands in that slot is of the lap before */
  CHECK_EQUAL(drains(0, number, number), SEEN_UNTIL_NEW);
}

static void a_full_ring(void) {
  begin();
  for (int i = 0; i < SLOTS; i++)
    take_slot(1, true);
  CHECK(rings_fill(&rings) == 1);
  CHECK_EQUAL(drains(1, 0, SLOTS), SEEN_ALL);
}

static void take_no_row(void *context, const unsigned char *rows, size_t count) {
  (void)context;
  (void)rows;
  CHECK_EQUAL(count, 0);
}

/* ---- Wide records, in a BPF ring buffer: two pages of positions, and the data twice in a row */

#define WIDE_STRIDE (WIDE_SIZE + 8)
#define WIDE_BYTES 65536
#define BUSY (1u << 31)
#define DISCARDED (1u << 30)

static uint64_t *wide_taken, *wide_next;
static unsigned char *wide_data;

static void begin_wide(uint64_t from) {
  size_t page = sysconf(_SC_PAGESIZE);
  int heads_fd, slots_fd, wide_fd;
  heads = make(&heads_fd, page);
  slots = make(&slots_fd, CPUS * SIZE);
  wide_taken = make(&wide_fd, 2 * page + 2 * WIDE_BYTES);
  wide_next = (uint64_t *)((char *)wide_taken + page);
  wide_data = (unsigned char *)wide_taken + 2 * page;
  *wide_taken = *wide_next = from;
  rings = ring_transport(heads_fd, slots_fd, wide_fd, CPUS, SIZE, WIDE_BYTES);
}

static void set_wide(uint64_t at, unsigned char byte) {
  wide_data[at % WIDE_BYTES] = wide_data[at % WIDE_BYTES + WIDE_BYTES] = byte;
}

/* A record all of whose bytes are its number; `head` is what the kernel says of it. */
static uint64_t put_wide(unsigned number, uint32_t head) {
  uint64_t at = *wide_next;
  head |= WIDE_SIZE;
  for (size_t i = 0; i < sizeof(head); i++)
    set_wide(at + i, head >> 8 * i);
  for (size_t i = 0; i < WIDE_SIZE; i++)
    set_wide(at + 8 + i, number);
  *wide_next += WIDE_STRIDE;
  return at;
}

static void check_rows(void *context, const unsigned char *rows, size_t count) {
  (void)context;
  for (size_t i = 0; i < count; i++, expected++)
    for (size_t j = 0; j < WIDE_SIZE; j++)
      CHECK_EQUAL(rows[i * WIDE_SIZE + j], expected & 0xff);
}

static void drains_wide(uint64_t from, uint64_t until) {
  expected = from;
  enum seen seen = rings_drain_wide(&rings, check_rows, 0);
  CHECK_EQUAL(expected, until);
  CHECK_EQUAL(seen, *wide_taken == *wide_next ? SEEN_ALL : SEEN_UNTIL_OLD);
}

static void wide_records_go_around_the_end(void) {
  begin_wide(7 * WIDE_BYTES + 8);
  for (unsigned number = 0; number < 1000; number += 150) { /* more than one window, too */
    for (unsigned i = 0; i < 150; i++)
      put_wide(number + i, 0);
    CHECK(rings_fill(&rings) == 150.0 * WIDE_STRIDE / WIDE_BYTES);
    drains_wide(number, number + 150);
    CHECK(rings_fill(&rings) == 0);
  }
}

static void a_busy_one_stops_it_and_a_discarded_one_is_passed_over(void) {
  begin_wide(0);
  put_wide(0, 0);
  put_wide(9, DISCARDED);
  put_wide(1, 0);
  uint64_t busy = put_wide(2, BUSY);
  put_wide(3, 0);
  drains_wide(0, 2);
  CHECK_EQUAL(*wide_taken, busy);
  drains_wide(2, 2);
  set_wide(busy + 3, 0);
  drains_wide(2, 4);
  CHECK_EQUAL(*wide_taken, *wide_next);
}

static void without_wide_records_nothing_is_drained(void) {
  begin();
  rings_drain_wide(&rings, take_no_row, 0);
}

int main(void) {
  RUN(each_cpu_has_its_own);
  RUN(an_unfinished_record_stops_the_drain);
  RUN(one_that_is_begun_after_another_is_another);
  RUN(around_the_end_and_through_all_marks);
  RUN(a_full_ring);
  RUN(wide_records_go_around_the_end);
  RUN(a_busy_one_stops_it_and_a_discarded_one_is_passed_over);
  RUN(without_wide_records_nothing_is_drained);
}
