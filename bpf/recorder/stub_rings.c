/* SPDX-License-Identifier: Apache-2.0 */
#include "stub_rings.h"
#include "capture.h"
#include "failure.h"
#include "filters.h"
#include "stub_file.h"
#include "ticks.h"
#include "tids.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WINDOW 2048
/* What has not been finished for so long never is: its thread has ended, or left a signal handler
 * by a jump. */
#define ABANDONED_NS 1000000000ull
#define FILTERS_NS 250000000ull /* between two looks at the threads */

/* What we know of a ring. */
struct ring {
  uint64_t taken;
  uint64_t until;         /* what `next` was at the last drain */
  uint64_t stuck_since;   /* when it first ended at this unfinished one; 0: it does not */
  uint64_t newest;        /* time of those taken out */
  uint64_t lost[HOT + 1]; /* as in the beginning */
  uint64_t sum;           /* of what was lost so far, as last read */
};

struct stub_rings {
  const struct target *target;
  struct stub_file file;
  unsigned cpus;
  uint64_t word;
  bool on[STUBS], is_given_up;
  uint64_t filters_at; /* when it was last looked for them */
  struct ring rings[RINGS_MAX];
  struct stub_ring heads[RINGS_MAX]; /* as they were at the last look */
  unsigned used;                     /* that a thread has had */
  uint64_t looked;                   /* when that was */
  struct ticks ticks;
  struct tids known, strangers; /* threads that are the target's, and that are not */
  uint64_t complete;            /* time before which nothing may come any more */
  uint64_t from, until;         /* between which there is to be anything */
  uint64_t records[HOT + 1];    /* by kind */
  uint64_t refused, unfinished, forbidden;
  uint64_t lost[HOT + 1]; /* of threads without a ring, as in the beginning */
  uint64_t sum;           /* of that, as last read */
};

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
static void forget_lost(struct stub_rings *rings) {
  struct file_head file;
  for (unsigned i = 0; i < rings->file.rings; i++) {
    struct stub_ring head;
    if (stub_file_head(&rings->file, i, &head))
      memcpy(rings->rings[i].lost, head.lost, sizeof(head.lost));
    rings->rings[i].sum = 0;
  }
  if (stub_file_lost(&rings->file, &file))
    memcpy(rings->lost, file.lost, sizeof(file.lost));
  rings->sum = 0;
}

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
  forget_lost(rings);
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

static bool are_filtered(struct stub_rings *rings) {
  uint64_t now = boot_ns();
  if (now - rings->filters_at < FILTERS_NS)
    return false;
  rings->filters_at = now;
  return filters_are_on(rings->target);
}

const char *stub_rings_problem(struct stub_rings *rings) {
  struct file_head file;
  const char *why = 0;
  if (!rings || rings->is_given_up || target_has_ended(rings->target))
    return 0;
  if (stub_file_lost(&rings->file, &file) && file.forbidden > rings->forbidden)
    why = "a thread may not read the time stamp counter (PR_SET_TSC)";
  else if (are_filtered(rings))
    why = "a thread runs under a system call filter (seccomp), or /proc does not tell";
  if (!why)
    return 0;
  rings->is_given_up = true;
  stub_rings_off(rings);
  return why;
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

/* ---- What is missing */

/* A count that has gone back, or up by more than can be, is the target's lie: nothing is lost. The
 * sum of what has. */
static uint64_t add_lost(const uint64_t now[HOT + 1], const uint64_t first[HOT + 1],
                         struct loss losses[KIND_COUNT]) {
  uint64_t sum = 0;
  for (unsigned kind = 1; kind <= HOT; kind++)
    if (now[kind] > first[kind] && now[kind] - first[kind] < 1ull << 48) {
      losses[kind].lost += now[kind] - first[kind];
      sum += now[kind] - first[kind];
    }
  return sum;
}

/* As in losses.c: once a ring was full it stayed full until it was drained. */
uint64_t stub_rings_losses(struct stub_rings *rings, struct loss losses[KIND_COUNT],
                           bool is_wanted) {
  struct file_head file;
  uint64_t since = UINT64_MAX;
  memset(losses, 0, KIND_COUNT * sizeof(*losses));
  for (unsigned i = 0; i < rings->file.rings; i++) {
    struct ring *ring = &rings->rings[i];
    struct stub_ring head;
    uint64_t sum = stub_file_head(&rings->file, i, &head) ? add_lost(head.lost, ring->lost, losses)
                                                          : ring->sum;
    if (sum != ring->sum && ring->newest < since)
      since = ring->newest;
    ring->sum = sum;
  }
  if (stub_file_lost(&rings->file, &file)) {
    uint64_t sum = add_lost(file.lost, rings->lost, losses);
    since = sum != rings->sum ? 0 : since;
    rings->sum = sum;
  }
  for (unsigned kind = 1; kind <= HOT; kind++)
    losses[kind].last_ts = losses[kind].lost ? boot_ns() : 0;
  /* Where nobody took anything out for long, the library has switched them off. */
  if (since != UINT64_MAX)
    stub_file_switch(&rings->file, rings->on, rings->word);
  if (!is_wanted) {
    forget_lost(rings);
    memset(losses, 0, KIND_COUNT * sizeof(*losses));
  }
  return since;
}

json_object *stub_rings_json(const struct stub_rings *rings) {
  if (!rings)
    return 0;
  json_object *said = json_object_new_object();
  uint64_t records = 0;
  for (unsigned kind = 1; kind <= HOT; kind++)
    records += rings->records[kind];
  json_object_object_add(said, "records", json_object_new_int64(records));
  json_object_object_add(said, "bound_ns", json_object_new_double(rings->ticks.worst));
  json_object_object_add(said, "refused", json_object_new_int64(rings->refused));
  json_object_object_add(said, "unfinished", json_object_new_int64(rings->unfinished));
  return said;
}

static void note(json_object *notes, uint64_t count, const char *format) {
  char *said = text(format, (unsigned long long)count);
  if (count)
    json_object_array_add(notes, json_object_new_string(said));
  free(said);
}

void stub_rings_notes(const struct stub_rings *rings, json_object *notes) {
  struct file_head file;
  if (!rings)
    return;
  note(notes, rings->refused,
       "%llu records in the process's own rings could not be true: they were left out");
  if (stub_file_lost(&rings->file, &file) && file.forbidden > rings->forbidden)
    note(notes, file.forbidden - rings->forbidden,
         "%llu threads may not read the time stamp counter: their operators were not recorded");
}
