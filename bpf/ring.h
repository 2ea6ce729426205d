/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The ring transport: records go into arrays that user space has mapped (records.h says how they
 * are shared), where a slot costs half of what a BPF ring buffer's two helper calls do; wide ones
 * into a BPF ring buffer. Needs Linux 5.12.
 */
#ifndef PROFINFER_RING_H
#define PROFINFER_RING_H

/* Takes the numbers of `count` records; NO_SLOT when the ring is full, which it is for each record
 * once the longest row of them would not fit: what is lost is then younger than what is not. Only a
 * task that preempts this one between the two lines can be in the way, so that a second try is
 * plenty. */
#define NO_SLOT (~0ULL)
#define TRIES 2
BODY __u64 take_slots(struct ring_head *head, __u64 slots, __u64 count) {
#pragma unroll
  for (int i = 0; i < TRIES; i++) {
    __u64 next = *(volatile __u64 *)&head->next;
    if (next - *(volatile __u64 *)&head->taken >= slots - COUNTER_RECORDS)
      return NO_SLOT;
    if (__sync_val_compare_and_swap(&head->next, next, next + count) == next)
      return next;
  }
  return NO_SLOT;
}

/* The last word of a record. User space must see it after the others: x86 keeps stores in order,
 * elsewhere an atomic exchange does. */
BODY void finish_record(struct record *r, __u64 last) {
  __u64 *word = (__u64 *)&r->tid;
#ifdef STORES_IN_ORDER
  __asm__ volatile("" ::: "memory");
  *(volatile __u64 *)word = last;
#else
  __sync_lock_test_and_set(word, last);
#endif
}

/* Where the record of that number goes. */
BODY struct record *begin_record(__u32 cpu, __u64 number) {
  __u32 shift = RING_SHIFT;
  return ring_slot((cpu << shift) + (number & ((1ULL << shift) - 1)));
}

BODY void fill_record(struct record *r, __u32 cpu, __u64 number, __u64 ts, __u8 kind, __u32 tid,
                      __u64 a, __u64 b) {
  __u64 mark = (number >> RING_SHIFT) + 1;
  r->ts = ts;
  r->a = a;
  r->b = b;
  finish_record(r, tid | (__u64)cpu << 32 | (__u64)kind << 48 | mark << 56);
}

/* The time is taken after the slot: while it is being filled the drain stops at it, so that
 * everything user space has not seen yet is younger than what it has. */
BODY __u64 try_emit_of(void *ctx, __u32 cpu, __u8 kind, __u32 tid, __u64 a, __u64 b) {
  struct ring_head *head = ring_head(cpu);
  if (!head)
    return 0;
  __u32 shift = RING_SHIFT;
  __u64 number = take_slots(head, 1ULL << shift, 1);
  if (number == NO_SLOT)
    return 0;
  struct record *r = begin_record(cpu, number);
  if (!r)
    return 0;
  __u64 now = boot_ns();
  fill_record(r, cpu, number, now, kind, tid, a, b);
  return now;
}

BODY __u64 try_emit_counted(void *ctx, __u32 cpu, __u8 kind, __u64 a, __u64 b, __u64 *reading,
                            __u32 *lost) {
  struct ring_head *head = ring_head(cpu);
  __u32 records = COUNTER_RECORDS, tid = running_thread();
  *lost = records;
  if (!head)
    return 0;
  __u32 shift = RING_SHIFT;
  __u64 number = take_slots(head, 1ULL << shift, 1 + records);
  if (number == NO_SLOT)
    return 0;
  *lost = 0;
  __u64 now = boot_ns();
  struct record *r = begin_record(cpu, number);
  if (r)
    fill_record(r, cpu, number, now, kind, tid, a, b);
  ROLLED
  for (__u32 i = 0; i < COUNTER_RECORDS_MAX; i++) {
    if (i >= records)
      break;
    r = begin_record(cpu, ++number);
    if (r)
      fill_record(r, cpu, number, now, KIND_COUNTERS, tid,
                  reading ? reading[2 * i] : COUNTER_UNKNOWN,
                  reading ? reading[2 * i + 1] : COUNTER_UNKNOWN);
  }
  return now;
}

#endif
