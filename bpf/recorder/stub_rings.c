/* SPDX-License-Identifier: Apache-2.0 */
#include "stub_rings.h"
#include "capture.h"
#include "failure.h"
#include "stub_known.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WINDOW 2048
/* What has not been finished for so long never is: its thread has ended, or left a signal handler
 * by a jump. */
#define ABANDONED_NS 1000000000ull

struct stub_rings *stub_rings_open(const struct plan *plan, const struct target *target,
                                   unsigned cpus, size_t size) {
  if (!plan->stub_count)
    return 0;
  struct stub_rings *rings = allocate(1, sizeof(*rings));
  const char *why = ticks_problem();
  bool is_there = !why && stub_file_open(&rings->file, target, plan->stub_page, size, &why);
  if (!is_there && target_has_ended(target))
    return 0;
  if (!is_there)
    fail(EXIT_PROBES, "--probes stub records by probes", "process %d cannot record by stubs: %s",
         target->pid, why);
  rings->target = target;
  rings->cpus = cpus;
  rings->word = (boot_ns() >> 10 | 1ull << 31) << 32 | (uint32_t)getpid();
  rings->known = tids_begin();
  rings->strangers = tids_begin();
  return rings;
}

static void check_written(const struct stub_rings *rings, bool is_written) {
  if (!is_written && !target_has_ended(rings->target))
    fail(EXIT_PROBES, "--probes stub records by probes",
         "the stubs of process %d cannot be switched: %s", rings->target->pid, strerror(errno));
}

void stub_rings_leave(struct stub_rings *rings, uint64_t op_at, const int32_t ops[2]) {
  check_written(rings, stub_file_leave(&rings->file, op_at, ops));
}

/* What was lost so far is not ours to tell. */
/* What a recording before has left is not ours. */
static void begin(struct stub_rings *rings) {
  for (unsigned i = 0; i < rings->file.rings; i++) {
    struct stub_ring head;
    if (!stub_file_head(&rings->file, i, &head))
      continue;
    rings->rings[i].taken = rings->rings[i].until = head.next;
    stub_file_taken(&rings->file, i, head.next);
  }
  struct file_head head;
  if (stub_file_lost(&rings->file, &head))
    rings->forbidden = head.forbidden;
  stub_rings_forget_lost(rings);
  ticks_add(&rings->ticks, ticks_look());
  rings->complete = rings->ticks.pairs[0].boot;
}

void stub_rings_switch(struct stub_rings *rings, const struct plan *plan) {
  if (!rings->ticks.count)
    begin(rings);
  for (unsigned i = 0; i < STUBS; i++)
    rings->on[i] = plan->stubs[i] && !rings->is_given_up;
  check_written(rings, stub_file_switch(&rings->file, rings->on, rings->word));
}

void stub_rings_off(struct stub_rings *rings) {
  memset(rings->on, 0, sizeof(rings->on));
  stub_file_switch(&rings->file, rings->on, 0);
}

/* ---- Draining */

/* The thread itself may be writing it: of two looks the further one is no less than it was. One
 * that cannot be is the target's lie, and everything in its ring is passed over. */
static bool look_at(struct stub_rings *rings, unsigned ring, struct stub_ring *head) {
  struct stub_ring first;
  uint64_t room = rings->file.mask + 1, taken = rings->rings[ring].taken;
  if (!stub_file_head(&rings->file, ring, &first) || !stub_file_head(&rings->file, ring, head))
    return false;
  uint64_t further = head->next - taken <= room ? head->next - taken : 0;
  if (first.next - taken <= room && first.next - taken > further)
    further = first.next - taken;
  if (head->next - taken > room && first.next - taken > room) {
    rings->refused++;
    rings->rings[ring].taken = rings->rings[ring].until = head->next;
    return true;
  }
  head->next = taken + further;
  return true;
}

static bool is_thread(struct stub_rings *rings, uint32_t tid) {
  char path[32];
  if (tids_have(&rings->known, tid) || tids_have(&rings->strangers, tid))
    return !tids_have(&rings->strangers, tid);
  snprintf(path, sizeof(path), "task/%u", tid);
  bool is_own = !faccessat(rings->target->folder, path, F_OK, 0);
  snprintf(path, sizeof(path), "/proc/%u", tid);
  /* One that has ended is nobody's. */
  is_own = tid && (is_own || access(path, F_OK));
  tids_add(is_own ? &rings->known : &rings->strangers, tid);
  return is_own;
}

/* Whether it can be true. */
static bool convert(struct stub_rings *rings, const struct stub_record *from, struct record *to) {
  uint32_t tid = from->word & THREAD_MAX;
  uint8_t kind = from->word >> WORD_KIND & 3;
  uint16_t cpu = from->word >> WORD_CPU & 0xfff;
  uint64_t boot;
  if (cpu == CPU_UNKNOWN && rings->cpus <= CPU_UNKNOWN)
    cpu = CPU_NOT_KNOWN;
  if (!kind || (cpu >= rings->cpus && cpu != CPU_NOT_KNOWN) ||
      !ticks_boot(&rings->ticks, from->counter, &boot) || boot < rings->complete ||
      !is_thread(rings, tid))
    return false;
  *to =
      (struct record){.ts = boot, .a = from->a, .b = from->b, .tid = tid, .cpu = cpu, .kind = kind};
  return true;
}

static size_t finished(const struct stub_record *records, size_t count, uint64_t number) {
  size_t i = 0;
  while (i < count && records[i].word >> WORD_NUMBER == ((number + i + 1) & 0xfffffff))
    i++;
  return i;
}

/* Finished ones from `taken` on, at most a window of them. What is being written while it is read
 * may be half of it: so it is read once more when it is known to be finished. */
static size_t take_window(struct stub_rings *rings, unsigned number, uint64_t count,
                          records_fn *take, void *context) {
  static struct stub_record window[WINDOW];
  static struct record records[WINDOW];
  const struct stub_file *file = &rings->file;
  struct ring *ring = &rings->rings[number];
  uint64_t from = ring->taken;
  size_t kept = 0, whole = count < WINDOW ? count : WINDOW;
  whole = finished(window, stub_file_read(file, number, from, whole, window), from);
  whole = stub_file_read(file, number, from, whole, window);
  for (size_t i = 0; i < whole; i++) {
    const struct record *record = &records[kept];
    if (!convert(rings, &window[i], &records[kept])) {
      rings->refused++;
      continue;
    }
    if (record->ts > ring->newest)
      ring->newest = record->ts;
    if (record->ts >= rings->from && record->ts < rings->until)
      rings->records[records[kept++].kind]++;
  }
  if (kept)
    take(context, records, kept);
  return whole;
}

/* Passes over one that is not finished, and will not be. */
static bool pass_over(struct stub_rings *rings, struct ring *ring, uint64_t now) {
  bool has_ended = target_has_ended(rings->target);
  ring->stuck_since = ring->stuck_since ? ring->stuck_since : now;
  if (!has_ended && now - ring->stuck_since < ABANDONED_NS)
    return false;
  rings->unfinished++;
  ring->taken++;
  ring->stuck_since = 0;
  return true;
}

static enum seen drain_one(struct stub_rings *rings, unsigned number, uint64_t until, uint64_t now,
                           records_fn *take, void *context) {
  struct ring *ring = &rings->rings[number];
  uint64_t before = ring->until, was = ring->taken;
  while (ring->taken < until) {
    size_t whole = take_window(rings, number, until - ring->taken, take, context);
    ring->taken += whole;
    if (whole)
      ring->stuck_since = 0;
    else if (!pass_over(rings, ring, now))
      break;
  }
  ring->until = until;
  if (ring->taken != was)
    stub_file_taken(&rings->file, number, ring->taken);
  if (ring->taken == until)
    return SEEN_ALL;
  return ring->taken >= before ? SEEN_UNTIL_NEW : SEEN_UNTIL_OLD;
}

/* All heads first, then both clocks: whatever was written by then is older than that pair. */
void stub_rings_look(struct stub_rings *rings) {
  struct stub_ring *heads = rings->heads;
  for (rings->used = 0; rings->used < rings->file.rings; rings->used++)
    if (!look_at(rings, rings->used, &heads[rings->used]) ||
        (!heads[rings->used].owner && heads[rings->used].next == rings->rings[rings->used].taken))
      break;
  ticks_add(&rings->ticks, ticks_look());
  rings->looked = boot_ns();
}

struct look stub_rings_drain(struct stub_rings *rings, uint64_t complete, uint64_t from,
                             uint64_t until, records_fn *take, void *context) {
  struct look look = {0, SEEN_ALL};
  rings->complete = complete > rings->complete ? complete : rings->complete;
  rings->from = from;
  rings->until = until;
  for (unsigned i = 0; i < rings->used; i++) {
    enum seen seen = drain_one(rings, i, rings->heads[i].next, rings->looked, take, context);
    look.seen = seen > look.seen ? seen : look.seen;
  }
  return look;
}

double stub_rings_fill(const struct stub_rings *rings) {
  double most = 0;
  for (unsigned i = 0; rings && i <= rings->used && i < rings->file.rings; i++) {
    struct stub_ring head;
    uint64_t full = stub_file_head(&rings->file, i, &head) ? head.next - rings->rings[i].taken : 0;
    if (full <= rings->file.mask + 1 && (double)full / (rings->file.mask + 1) > most)
      most = (double)full / (rings->file.mask + 1);
  }
  return most;
}

uint64_t stub_rings_records(const struct stub_rings *rings, unsigned kind) {
  return rings && kind <= HOT ? rings->records[kind] : 0;
}
