/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recording stubs (README.md, rings.h): the page, the file, and what a stub calls when its thread
 * has no ring yet, or no room in it. A stub may be hit within a signal handler, in a thread that
 * ends, and before main(): nothing here waits, allocates, or needs libc.
 */
#include <stdint.h>

#include "audit.h"
#include "rings.h"
#include "system_calls.h"

/* A mapping of its own, as it begins and ends with a page of any size, and is in no file. */
#if defined(__x86_64__)
#define PAGE 4096
#else
#define PAGE 65536
#endif
union page {
  struct stub_page page;
  char whole[PAGE];
};
__attribute__((visibility("hidden"), aligned(PAGE))) union page stub_page;
extern EXPORT union page profinfer_page __attribute__((alias("stub_page")));

/* ---- When an engine is loaded */

/* Whether a filter may kill for a system call that is not the loader's own: opening and reading
 * files are. */
static int is_filtered(void) {
  static const char wanted[] = "\nSeccomp:\t0\n";
  static char text[4096];
  long fd = call(SYS_OPENAT, -100, (long)"/proc/self/status", 02000000 /* O_CLOEXEC */);
  if (fd < 0)
    return 1;
  long length = call(SYS_READ, fd, (long)text, sizeof(text));
  call(SYS_CLOSE, fd, 0, 0);
  for (long at = 0; at + (long)sizeof(wanted) - 1 <= length; at++) {
    unsigned same = 0;
    while (wanted[same] && text[at + same] == wanted[same])
      same++;
    if (!wanted[same])
      return 0;
  }
  return 1;
}

/* Beyond the limit the kernel would send a signal that ends the process. */
static int is_too_large(void) {
  uint64_t limit[2];
  return call6(SYS_PRLIMIT64, 0, 1 /* RLIMIT_FSIZE */, 0, (long)limit, 0, 0) < 0 ||
         limit[0] < FILE_SIZE;
}

static long make_file(void) {
  enum { CLOEXEC = 1, ALLOW_SEALING = 2, NOEXEC_SEAL = 8 };
  long name = (long)"profinfer-rings";
  long fd = call(SYS_MEMFD_CREATE, name, CLOEXEC | ALLOW_SEALING | NOEXEC_SEAL, 0);
  if (fd < 0) /* before Linux 6.3 */
    fd = call(SYS_MEMFD_CREATE, name, CLOEXEC | ALLOW_SEALING, 0);
  return fd;
}

/* Its address; 0 where the kernel gives none. A child has neither it nor what is in the page. */
static uint64_t map_file(long fd) {
  enum { ADD_SEALS = 1033, SEAL = 1, SHRINK = 2, GROW = 4 };
  enum { WIPE_ON_FORK = 18, DONT_FORK = 10, DONT_DUMP = 16 };
  if (call(SYS_FTRUNCATE, fd, FILE_SIZE, 0) || call(SYS_FCNTL, fd, ADD_SEALS, SEAL | SHRINK | GROW))
    return 0;
  if (call(SYS_MADVISE, (long)&stub_page, sizeof(stub_page), WIPE_ON_FORK))
    return 0;
  long at = call6(SYS_MMAP, 0, FILE_SIZE, 3 /* read, write */, 1 /* shared */, fd, 0);
  if (at < 0 || call(SYS_MADVISE, at, FILE_SIZE, DONT_FORK))
    return 0;
  call(SYS_MADVISE, at, FILE_SIZE, DONT_DUMP);
  return at;
}

static enum page_state prepare(void) {
  if (is_filtered())
    return PAGE_SECCOMP;
  if (is_too_large())
    return PAGE_LIMIT;
  long fd = make_file();
  if (fd < 0)
    return PAGE_REFUSED;
  stub_page.page.file = map_file(fd);
  call(SYS_CLOSE, fd, 0, 0);
  return stub_page.page.file ? PAGE_READY : PAGE_REFUSED;
}

void rings_prepare(void) {
  if (!stub_page.page.state)
    __atomic_store_n(&stub_page.page.state, prepare(), __ATOMIC_RELEASE);
}

/* ---- When a stub cannot go on by itself */

/* What a thread has: `word` says in which recording. The stubs read it as it stands here. */
__attribute__((visibility("hidden"), tls_model("initial-exec"))) __thread struct {
  uint64_t word;
  struct stub_ring *ring;
  const uint32_t *cpu; /* where it runs, for processors that do not tell themselves */
} stub_mine;

/* In the place of a ring, where there is none: never any room. */
static struct stub_ring nowhere;

/* So many records are lost before it is asked again whether that has changed. */
#define PATIENCE 1024
#ifndef GIVE_UP_NS /* tests are less patient */
#define GIVE_UP_NS 10000000000ull
#endif

static struct file_head *file_head(void) { return (struct file_head *)stub_page.page.file; }

static void count(uint64_t *lost) { __atomic_fetch_add(lost, 1, __ATOMIC_RELAXED); }

/* PR_GET_TSC: PR_TSC_SIGSEGV is 2. Where the kernel has no such thing nobody is forbidden. */
static int may_read_counter(void) {
  int how = 0;
  long got = call(SYS_PRCTL, 25, (long)&how, 0);
  return got == -22 /* EINVAL */ || (got == 0 && how != 2);
}

static int take_ring(struct stub_ring *ring, uint64_t from, uint64_t to) {
  return __atomic_compare_exchange_n(&ring->owner, &from, to, 0, __ATOMIC_ACQ_REL,
                                     __ATOMIC_RELAXED);
}

/* A ring that was this thread's, or one's that had its number; else one that nobody has had; else
 * one whose thread has ended: each record bears its own thread, so that what is in it stays. */
static struct stub_ring *find_ring(void) {
  const struct stub_page *page = &stub_page.page;
  uint64_t thread = call(SYS_GETTID, 0, 0, 0), process = call(SYS_GETPID, 0, 0, 0);
  uint64_t rings = page->rings < RINGS_MAX ? page->rings : RINGS_MAX;
  if (!page->file || page->mask >= RECORDS_MAX || (page->mask + 1) * rings > RECORDS_MAX ||
      thread > THREAD_MAX)
    return &nowhere;
  for (int way = 0; way < 3; way++)
    for (uint64_t i = 0; i < rings; i++) {
      struct stub_ring *ring = (struct stub_ring *)(page->file + ring_offset(i, page->mask));
      uint64_t owner = __atomic_load_n(&ring->owner, __ATOMIC_ACQUIRE);
      if (way == 0 ? owner == thread : way == 1 ? !owner && take_ring(ring, 0, thread) : 0)
        return ring;
      if (way == 2 && call(SYS_TGKILL, process, owner, 0) == -3 /* ESRCH */ &&
          take_ring(ring, owner, thread))
        return ring;
    }
  return &nowhere;
}

/* The loader's own, of glibc 2.35 and later: the thread's area in which the kernel writes its CPU
 * (rseq(2)), counted from where its thread-local storage is. */
static const int64_t *rseq_offset;
static const uint32_t *rseq_size;

void rings_know_rseq(const void *offset, const void *size) {
  if (rseq_offset)
    return;
  rseq_offset = offset;
  rseq_size = size;
}

static const uint32_t *find_cpu(void) {
  static const uint32_t unknown = UINT32_MAX;
  enum { CPU_ID = 4, LEAST = 8 };
  if (!rseq_offset || !rseq_size || *rseq_size < LEAST)
    return &unknown;
  return (const uint32_t *)((char *)__builtin_thread_pointer() + *rseq_offset + CPU_ID);
}

static void begin(uint64_t word) {
  stub_mine.ring = &nowhere;
  stub_mine.cpu = find_cpu();
  if (may_read_counter())
    stub_mine.ring = find_ring();
  else
    count(&file_head()->forbidden);
  stub_mine.word = word;
}

/* How many the recorder has taken out, at least: what it is just writing is passed over. */
static uint64_t taken(const struct stub_ring *ring, uint64_t mask) {
  uint64_t again = __atomic_load_n(&ring->taken_again, __ATOMIC_ACQUIRE);
  uint64_t once = __atomic_load_n(&ring->taken, __ATOMIC_ACQUIRE);
  uint64_t least = ring->limit > mask ? ring->limit - mask - 1 : 0;
  return once == again && once >= least && once <= ring->next ? once : least;
}

static uint64_t now(void) {
  uint64_t time[2] = {0};
  call(SYS_CLOCK_GETTIME, 1 /* CLOCK_MONOTONIC */, (long)time, 0);
  return time[0] * 1000000000 + time[1];
}

/* Nobody takes records out any more: the stubs are as if nobody had come. */
static void give_up(void) {
  for (unsigned i = 0; i < STUBS; i++)
    __atomic_store_n(&stub_page.page.switches[i], 0, __ATOMIC_RELAXED);
}

static void lose(struct stub_ring *ring, unsigned kind) {
  count(&ring->lost[kind]);
  if (!ring->full_since)
    ring->full_since = now();
  else if (ring->lost[kind] % PATIENCE == 0 && now() - ring->full_since > GIVE_UP_NS)
    give_up();
}

static void lose_nowhere(unsigned kind) {
  uint64_t *lost = &file_head()->lost[kind];
  count(lost);
  if (*lost % PATIENCE == 0 && may_read_counter())
    stub_mine.ring = find_ring();
}

/* Whether the stub is to try (once more) to record. */
__attribute__((visibility("hidden"), used)) int stub_miss(unsigned stub) {
  uint64_t word = __atomic_load_n(&stub_page.page.switches[stub], __ATOMIC_ACQUIRE);
  unsigned kind = stub / COPIES + 1;
  if (!word || stub_page.page.state != PAGE_READY)
    return 0;
  if (stub_mine.word != word) {
    begin(word);
    return 1;
  }
  struct stub_ring *ring = stub_mine.ring;
  if (ring == &nowhere) {
    lose_nowhere(kind);
    return 0;
  }
  uint64_t mask = stub_page.page.mask, limit = taken(ring, mask) + mask + 1;
  if (ring->next < limit) {
    ring->limit = limit;
    ring->full_since = 0;
    return 1;
  }
  lose(ring, kind);
  return 0;
}
