/* SPDX-License-Identifier: Apache-2.0 */
#include "ticks.h"
#include "capture.h"

#include <math.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>
#endif

#define TRIES 8

#if defined(__x86_64__)

static uint64_t read_ticks(void) {
  unsigned cpu;
  return __rdtscp(&cpu);
}

#define HAS_RDTSCP (1u << 27)
#define IS_CONSTANT (1u << 8)

static const char *missing(void) {
  unsigned a, b, c, d;
  if (!__get_cpuid(0x80000001, &a, &b, &c, &d) || !(d & HAS_RDTSCP))
    return "the processor has no rdtscp";
  if (!__get_cpuid(0x80000007, &a, &b, &c, &d) || !(d & IS_CONSTANT))
    return "the processor's time stamp counter is not constant (CPUID 0x80000007)";
  return 0;
}

#elif defined(__aarch64__)

/* As the stubs do. */
static uint64_t read_ticks(void) {
  uint64_t ticks;
  asm volatile("isb; mrs %0, cntvct_el0" : "=r"(ticks)::"memory");
  return ticks;
}

/* All of them have it, and it is constant. */
static const char *missing(void) { return 0; }

#endif

struct tick_pair ticks_look(void) {
  struct tick_pair best = {.around = UINT64_MAX};
  for (int i = 0; i < TRIES; i++) {
    uint64_t before = read_ticks(), boot = boot_ns(), around = read_ticks() - before;
    if (around < best.around)
      best = (struct tick_pair){before + around / 2, boot, around};
  }
  return best;
}

/* ---- Whether it can serve */

#define READS 1000
#define READ_MAX_NS 200 /* as a rule 10 to 25; a trap takes a thousand, */
#define READ_SHARE 2    /* and as a system call does: where those are slower, all is (emulators) */
#define BASE_NS 2000000
#define APART_MAX_NS 5000

static void ask_for_nothing(void) { syscall(SYS_getppid); }

static void read_once(void) { read_ticks(); }

/* ns that it takes, at best. */
static double takes(void (*what)(void)) {
  uint64_t best = UINT64_MAX;
  for (int i = 0; i < TRIES; i++) {
    uint64_t start = boot_ns();
    for (int j = 0; j < READS; j++)
      what();
    uint64_t took = boot_ns() - start;
    best = took < best ? took : best;
  }
  return (double)best / READS;
}

static bool is_trapped(void) {
  double read = takes(read_once);
  return read > READ_MAX_NS && read * READ_SHARE > takes(ask_for_nothing);
}

/* ns per tick. */
static double rate(const struct tick_pair *from, const struct tick_pair *to) {
  return (double)(to->boot - from->boot) / (double)(to->ticks - from->ticks);
}

/* Whether the counters of all CPUs tell one time: seen from the first one's, each other's stands
 * where it should. */
static bool go_together(const cpu_set_t *allowed) {
  bool is_one = true;
  struct tick_pair first = ticks_look();
  while (boot_ns() - first.boot < BASE_NS)
    ;
  struct tick_pair second = ticks_look();
  double ns = rate(&first, &second);
  for (int cpu = 0; cpu < CPU_SETSIZE && is_one; cpu++) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (!CPU_ISSET(cpu, allowed) || sched_setaffinity(0, sizeof(one), &one))
      continue;
    struct tick_pair there = ticks_look();
    double since = (double)(int64_t)(there.ticks - second.ticks) * ns;
    double apart = since - (double)(int64_t)(there.boot - second.boot);
    /* The rate is of a short time, and little wrong. */
    is_one = fabs(apart) < APART_MAX_NS + fabs(since) / 1000;
  }
  sched_setaffinity(0, sizeof(*allowed), allowed);
  return is_one;
}

const char *ticks_problem(void) {
  cpu_set_t allowed;
  const char *why = missing();
  if (why)
    return why;
  if (is_trapped())
    return "reading the time stamp counter takes too long here: it may be trapped";
  if (!sched_getaffinity(0, sizeof(allowed), &allowed) && !go_together(&allowed))
    return "the time stamp counters of the CPUs tell different times";
  return 0;
}

/* ---- Times */

static double span(const struct tick_pair *to) { return to->ticks - (to - 1)->ticks; }

/* Up to some moment between the last two looks the clock may have gone on as it went before them:
 * so far it is away from the straight line, at the most, as far as the looks can tell. Else a time
 * is as uncertain as they are, and a tick. */
static double bound(const struct ticks *ticks) {
  const struct tick_pair *last = &ticks->pairs[ticks->count - 1], *before = last - 1;
  uint64_t around = last->around > before->around ? last->around : before->around;
  double tick = rate(before, last), looks = tick * around / 2, bend = 0;
  if (ticks->count > 2)
    bend = fabs(tick - rate(before - 1, before)) - looks / span(before) - looks / span(last);
  return looks + tick + (bend > 0 ? bend * span(last) : 0);
}

void ticks_add(struct ticks *ticks, struct tick_pair pair) {
  struct tick_pair *pairs = ticks->pairs;
  size_t count = ticks->count;
  if (count && (pair.ticks <= pairs[count - 1].ticks || pair.boot <= pairs[count - 1].boot))
    return;
  if (count == TICK_PAIRS)
    memmove(pairs, pairs + 1, --count * sizeof(*pairs));
  pairs[count] = pair;
  ticks->count = count + 1;
  if (ticks->count < 2)
    return;
  double worst = bound(ticks);
  ticks->worst = worst > ticks->worst ? worst : ticks->worst;
}

bool ticks_boot(const struct ticks *ticks, uint64_t counter, uint64_t *boot) {
  const struct tick_pair *pairs = ticks->pairs;
  size_t at = ticks->count;
  while (at && pairs[at - 1].ticks > counter)
    at--;
  if (!at || (at == ticks->count && pairs[at - 1].ticks != counter))
    return false;
  const struct tick_pair *from = &pairs[at - 1], *to = at < ticks->count ? from + 1 : from;
  *boot = from->boot;
  if (to != from)
    *boot += (unsigned __int128)(counter - from->ticks) * (to->boot - from->boot) /
             (to->ticks - from->ticks);
  return true;
}
