/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The perf transport: the kernel's perf buffers, one or two per CPU (linux/perf_event.h says how
 * they are shared), for kernels that lack what the rings need. They drop a record that does not
 * fit, and the handler counts it.
 */
#include "failure.h"
#include "rings.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define COPY_RECORDS 2048
#define COPY_ROWS 64
/* A handler is soon over: it is looked for so many times. */
#define TRIES 8

/* One buffer; a CPU that is offline has none, and what is sent there counts as lost. */
struct buffer {
  struct perf_event_mmap_page *page; /* or 0 */
  unsigned char *data;
  size_t size;
  uint64_t dropped; /* records, as far as the kernel has said so */
};

struct perf_rings {
  unsigned cpus;
  struct ring_head *heads;
  struct buffer *records, *wide; /* by CPU; wide: 0 where there are none */
};

/* Makes the buffer of one CPU; false when that CPU is not there. */
static bool open_buffer(struct buffer *buffer, int map_fd, unsigned cpu, size_t size) {
  struct perf_event_attr attr = {
      .size = sizeof(attr),
      .type = PERF_TYPE_SOFTWARE,
      .config = PERF_COUNT_SW_BPF_OUTPUT,
      .sample_type = PERF_SAMPLE_RAW,
      .sample_period = 1,
      /* Nobody waits: as few wake-ups as can be. */
      .watermark = 1,
      .wakeup_watermark = size,
  };
  size_t page = sysconf(_SC_PAGESIZE);
  int fd = syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
  if (fd < 0 && errno == ENODEV)
    return false;
  if (fd < 0)
    fail(EXIT_KERNEL, "", "cannot open a perf buffer on CPU %u: %s", cpu, strerror(errno));
  void *start = mmap(0, page + size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (start == MAP_FAILED)
    fail(EXIT_KERNEL, "choose a smaller --ring-size", "cannot map a perf buffer: %s",
         strerror(errno));
  if (bpf_map_update_elem(map_fd, &cpu, &fd, BPF_ANY) || ioctl(fd, PERF_EVENT_IOC_ENABLE, 0))
    fail(EXIT_KERNEL, "", "cannot use a perf buffer on CPU %u: %s", cpu, strerror(errno));
  close(fd); /* the map of events and the mapping hold it */
  *buffer = (struct buffer){start, (unsigned char *)start + page, size, 0};
  return true;
}

static double filled(const struct buffer *buffer) {
  if (!buffer->page)
    return 0;
  uint64_t head = __atomic_load_n(&buffer->page->data_head, __ATOMIC_ACQUIRE);
  return (double)(head - buffer->page->data_tail) / buffer->size;
}

static double fill(void *state) {
  const struct perf_rings *perf = state;
  double most = 0;
  for (unsigned cpu = 0; cpu < perf->cpus; cpu++) {
    double records = filled(&perf->records[cpu]);
    double wide = perf->wide ? filled(&perf->wide[cpu]) : 0;
    most = records > most ? records : most;
    most = wide > most ? wide : most;
  }
  return most;
}

/* Bytes of the buffer, which goes on at its beginning. */
static void copy(const struct buffer *buffer, uint64_t at, void *to, size_t length) {
  size_t from = at & (buffer->size - 1), part = buffer->size - from;
  if (part > length)
    part = length;
  memcpy(to, buffer->data + from, part);
  memcpy((char *)to + part, buffer->data, length - part);
}

/* What the kernel puts where it has dropped records. */
struct lost_record {
  struct perf_event_header header;
  uint64_t id, lost;
};

/* Copies samples of `size` bytes each from `tail` to `head`, at most `room`, and returns how many.
 * Of what else the kernel writes there only its count of losses is looked at. */
static size_t copy_samples(struct buffer *buffer, uint64_t *tail, uint64_t head, void *to,
                           size_t size, size_t room) {
  size_t count = 0;
  struct perf_event_header header;
  while (*tail < head && count < room) {
    copy(buffer, *tail, &header, sizeof(header));
    /* A sample has the length of its bytes in 4 bytes, then these. */
    if (header.type == PERF_RECORD_SAMPLE && header.size >= sizeof(header) + 4 + size)
      copy(buffer, *tail + sizeof(header) + 4, (char *)to + size * count++, size);
    struct lost_record lost = {0};
    if (header.type == PERF_RECORD_LOST && header.size >= sizeof(lost))
      copy(buffer, *tail, &lost, sizeof(lost));
    buffer->dropped += lost.lost;
    *tail += header.size;
  }
  return count;
}

/* What was read need not stay in this process's memory. Where that cannot be, nothing is lost. */
static void forget_pages(const struct buffer *buffer) {
  madvise(buffer->data, buffer->size, MADV_DONTNEED);
}

/* Whether a handler may have taken its time on that CPU and not sent its record yet. In this order:
 * whoever is counted as ended has sent its record before we look for it. */
static bool is_inside(const struct ring_head *state) {
  for (int i = 0; i < TRIES; i++) {
    uint64_t ended = __atomic_load_n(&state->ended, __ATOMIC_ACQUIRE);
    if (__atomic_load_n(&state->next, __ATOMIC_ACQUIRE) == ended)
      return false;
  }
  return true;
}

static enum seen drain(void *state, unsigned cpu, records_fn *take, void *context) {
  static struct record records[COPY_RECORDS];
  struct perf_rings *perf = state;
  struct buffer *buffer = &perf->records[cpu];
  /* Since when is not known. */
  enum seen seen = is_inside(&perf->heads[cpu]) ? SEEN_UNTIL_OLD : SEEN_ALL;
  if (!buffer->page)
    return seen;
  uint64_t tail = buffer->page->data_tail;
  uint64_t head = __atomic_load_n(&buffer->page->data_head, __ATOMIC_ACQUIRE);
  bool has_any = tail < head;
  while (tail < head) {
    size_t count = copy_samples(buffer, &tail, head, records, sizeof(*records), COPY_RECORDS);
    if (count)
      take(context, records, count);
    __atomic_store_n(&buffer->page->data_tail, tail, __ATOMIC_RELEASE);
  }
  if (has_any)
    forget_pages(buffer);
  return seen;
}

static enum seen drain_wide(void *state, wide_fn *take, void *context) {
  static unsigned char rows[COPY_ROWS * WIDE_SIZE];
  struct perf_rings *perf = state;
  for (unsigned cpu = 0; perf->wide && cpu < perf->cpus; cpu++) {
    struct buffer *buffer = &perf->wide[cpu];
    if (!buffer->page)
      continue;
    uint64_t tail = buffer->page->data_tail;
    uint64_t head = __atomic_load_n(&buffer->page->data_head, __ATOMIC_ACQUIRE);
    bool has_any = tail < head;
    while (tail < head) {
      size_t count = copy_samples(buffer, &tail, head, rows, WIDE_SIZE, COPY_ROWS);
      if (count)
        take(context, rows, count);
      __atomic_store_n(&buffer->page->data_tail, tail, __ATOMIC_RELEASE);
    }
    if (has_any)
      forget_pages(buffer);
  }
  return SEEN_ALL; /* whoever was at one was seen before, with the others */
}

static uint64_t dropped(void *state) {
  const struct perf_rings *perf = state;
  uint64_t all = 0;
  for (unsigned cpu = 0; cpu < perf->cpus; cpu++)
    all += perf->records[cpu].dropped + (perf->wide ? perf->wide[cpu].dropped : 0);
  return all;
}

struct rings perf_transport(int ring_heads, int record_events, int structure_events, unsigned cpus,
                            size_t ring_size, size_t structure_ring_size) {
  struct perf_rings *perf = allocate(1, sizeof(*perf));
  size_t page = sysconf(_SC_PAGESIZE), online = 0;
  size_t length = (cpus * sizeof(struct ring_head) + page - 1) & ~(page - 1);
  struct rings rings = {cpus, perf, fill, drain, drain_wide, dropped};
  perf->cpus = cpus;
  perf->records = allocate(cpus, sizeof(*perf->records));
  if (structure_events != NO_WIDE)
    perf->wide = allocate(cpus, sizeof(*perf->wide));
  perf->heads = mmap(0, length, PROT_READ | PROT_WRITE, MAP_SHARED, ring_heads, 0);
  if (perf->heads == MAP_FAILED)
    fail(EXIT_KERNEL, "", "cannot map the CPUs' counts: %s", strerror(errno));
  for (unsigned cpu = 0; cpu < cpus; cpu++) {
    if (!open_buffer(&perf->records[cpu], record_events, cpu, ring_size))
      continue;
    online++;
    if (perf->wide)
      open_buffer(&perf->wide[cpu], structure_events, cpu, structure_ring_size);
  }
  if (!online)
    fail(EXIT_KERNEL, "", "no CPU has a perf buffer");
  return rings;
}
