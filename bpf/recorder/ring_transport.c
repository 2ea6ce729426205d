/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring transport: mapped arrays for records (bpf/records.h says how they are shared) and a BPF
 * ring buffer for wide ones (kernel/bpf/ringbuf.c: a page with the consumer's position, one with
 * the producer's, then the data, twice in a row; each record has a header of 8 bytes).
 *
 * Only what is being read is mapped: a mapping counts as this process's memory from its first to
 * its last byte, and boards have little. A few system calls per drain are what that costs.
 */
#include "failure.h"
#include "rings.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define WINDOW_RECORDS 4096
#define WIDE_ROWS 64
#define WIDE_STRIDE (WIDE_SIZE + 8)
#define BUSY (1u << 31)
#define DISCARDED (1u << 30)

struct mapped_rings {
  unsigned cpus;
  struct ring_head *heads;
  uint64_t *until; /* by CPU: the number that the next record had at the last drain */
  int slots_fd;
  uint64_t slots; /* records of each ring */
  int wide_fd;    /* or NO_WIDE */
  uint64_t *wide_taken;
  const uint64_t *wide_next;
  size_t wide_size;
};

struct window {
  void *start;
  size_t length;
  const void *data; /* what was asked for */
};

static void *map(int fd, size_t length, int protection, uint64_t offset) {
  void *start = mmap(0, length, protection, MAP_SHARED, fd, offset);
  if (start == MAP_FAILED)
    fail(EXIT_KERNEL, "choose a smaller --ring-size", "cannot map a ring: %s", strerror(errno));
  return start;
}

static size_t whole_pages(size_t length) {
  size_t page = sysconf(_SC_PAGESIZE);
  return (length + page - 1) & ~(page - 1);
}

static struct window open_window(int fd, uint64_t offset, size_t length) {
  struct window window;
  size_t before = offset & (sysconf(_SC_PAGESIZE) - 1);
  window.length = whole_pages(before + length);
  window.start = map(fd, window.length, PROT_READ, offset - before);
  window.data = (char *)window.start + before;
  return window;
}

static void close_window(struct window window) { munmap(window.start, window.length); }

static double fill(void *state) {
  const struct mapped_rings *ring = state;
  double most = 0;
  if (ring->wide_fd != NO_WIDE)
    most = (double)(__atomic_load_n(ring->wide_next, __ATOMIC_ACQUIRE) - *ring->wide_taken) /
           ring->wide_size;
  for (unsigned cpu = 0; cpu < ring->cpus; cpu++) {
    const struct ring_head *head = &ring->heads[cpu];
    uint64_t next = __atomic_load_n(&head->next, __ATOMIC_RELAXED);
    double full = (double)(next - head->taken) / ring->slots;
    most = full > most ? full : most;
  }
  return most;
}

/* How many of them bear the mark of their lap: the first that does not is not finished. */
static size_t finished(const struct record *records, size_t count, uint8_t mark) {
  size_t i = 0;
  while (i < count && __atomic_load_n(&records[i].mark, __ATOMIC_ACQUIRE) == mark)
    i++;
  return i;
}

/* Where it stopped: at what was begun since the drain before, which ended at `before`, or not. */
static enum seen seen_until(uint64_t taken, uint64_t until, uint64_t before) {
  if (taken == until)
    return SEEN_ALL;
  return taken >= before ? SEEN_UNTIL_NEW : SEEN_UNTIL_OLD;
}

static enum seen drain(void *state, unsigned cpu, records_fn *take, void *context) {
  struct mapped_rings *ring = state;
  struct ring_head *head = &ring->heads[cpu];
  uint64_t before = ring->until[cpu], taken = head->taken;
  uint64_t until = ring->until[cpu] = __atomic_load_n(&head->next, __ATOMIC_ACQUIRE);
  while (taken < until) {
    uint64_t at = taken & (ring->slots - 1), count = until - taken;
    if (count > ring->slots - at)
      count = ring->slots - at;
    if (count > WINDOW_RECORDS)
      count = WINDOW_RECORDS;
    struct window window =
        open_window(ring->slots_fd, (cpu * ring->slots + at) * sizeof(struct record),
                    count * sizeof(struct record));
    size_t whole = finished(window.data, count, taken / ring->slots + 1);
    if (whole)
      take(context, window.data, whole);
    close_window(window);
    taken += whole;
    __atomic_store_n(&head->taken, taken, __ATOMIC_RELEASE);
    if (whole < count)
      break;
  }
  return seen_until(taken, until, before);
}

/* Copies records without their headers, as far as they are finished; the bytes that they take up
 * in the ring. */
static size_t copy_rows(const unsigned char *from, size_t length, unsigned char *to,
                        size_t *count) {
  size_t at = 0;
  for (*count = 0; at < length && *count < WIDE_ROWS; at += WIDE_STRIDE) {
    uint32_t head = __atomic_load_n((const uint32_t *)(from + at), __ATOMIC_ACQUIRE);
    if (head & BUSY)
      break;
    if (!(head & DISCARDED))
      memcpy(to + WIDE_SIZE * (*count)++, from + at + 8, WIDE_SIZE);
  }
  return at;
}

static enum seen drain_wide(void *state, wide_fn *take, void *context) {
  static unsigned char rows[WIDE_ROWS * WIDE_SIZE];
  struct mapped_rings *ring = state;
  if (ring->wide_fd == NO_WIDE)
    return SEEN_ALL;
  uint64_t taken = *ring->wide_taken, until = __atomic_load_n(ring->wide_next, __ATOMIC_ACQUIRE);
  while (taken < until) {
    size_t length = until - taken, count;
    if (length > WIDE_ROWS * WIDE_STRIDE)
      length = WIDE_ROWS * WIDE_STRIDE;
    struct window window = open_window(
        ring->wide_fd, 2 * sysconf(_SC_PAGESIZE) + (taken & (ring->wide_size - 1)), length);
    size_t done = copy_rows(window.data, length, rows, &count);
    close_window(window);
    if (count)
      take(context, rows, count);
    taken += done;
    __atomic_store_n(ring->wide_taken, taken, __ATOMIC_RELEASE);
    if (done < length)
      return SEEN_UNTIL_OLD; /* some bear the time of what they belong to */
  }
  return SEEN_ALL;
}

/* Only the handlers count. */
static uint64_t dropped(void *state) {
  (void)state;
  return 0;
}

struct rings ring_transport(int ring_heads, int ring_slots, int structure_ring, unsigned cpus,
                            size_t ring_size, size_t structure_ring_size) {
  struct mapped_rings *ring = allocate(1, sizeof(*ring));
  size_t page = sysconf(_SC_PAGESIZE), heads = whole_pages(cpus * sizeof(struct ring_head));
  struct rings rings = {cpus, ring, fill, drain, drain_wide, dropped};
  ring->cpus = cpus;
  ring->until = allocate(cpus, sizeof(*ring->until));
  ring->heads = map(ring_heads, heads, PROT_READ | PROT_WRITE, 0);
  ring->slots_fd = ring_slots;
  ring->slots = ring_size / sizeof(struct record);
  ring->wide_fd = structure_ring;
  if (structure_ring == NO_WIDE)
    return rings;
  ring->wide_size = structure_ring_size;
  ring->wide_taken = map(structure_ring, page, PROT_READ | PROT_WRITE, 0);
  ring->wide_next = map(structure_ring, page, PROT_READ, page);
  return rings;
}
