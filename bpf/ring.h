/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The ring transport: records go into arrays that user space has mapped (records.h says how they
 * are shared), where a slot costs half of what a BPF ring buffer's two helper calls do; wide ones
 * into a BPF ring buffer. Needs Linux 5.12.
 */
#ifndef PROFINFER_RING_H
#define PROFINFER_RING_H

/* Takes the number of a record; NO_SLOT when the ring is full. Only a task that preempts this one
 * between the two lines can be in the way, so that a second try is plenty. */
#define NO_SLOT (~0ULL)
#define TRIES 2
BODY __u64 take_slot(struct ring_head *head, __u64 slots) {
#pragma unroll
  for (int i = 0; i < TRIES; i++) {
    __u64 next = *(volatile __u64 *)&head->next;
    if (next - *(volatile __u64 *)&head->taken >= slots)
      return NO_SLOT;
    if (__sync_val_compare_and_swap(&head->next, next, next + 1) == next)
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

/* The time is taken after the slot: while it is being filled the drain stops at it, so that
 * everything user space has not seen yet is younger than what it has. */
BODY __u64 try_emit(void *ctx, __u32 cpu, __u8 kind, __u64 a, __u64 b) {
  struct ring_head *head = ring_head(cpu);
  if (!head)
    return 0;
  __u32 shift = RING_SHIFT;
  __u64 number = take_slot(head, 1ULL << shift);
  if (number == NO_SLOT)
    return 0;
  struct record *r = ring_slot((cpu << shift) + (number & ((1ULL << shift) - 1)));
  if (!r)
    return 0;
  __u64 now = boot_ns();
  __u64 mark = (number >> shift) + 1;
  r->ts = now;
  r->a = a;
  r->b = b;
  finish_record(r, (__u32)bpf_get_current_pid_tgid() | (__u64)cpu << 32 | (__u64)kind << 48 |
                       mark << 56);
  return now;
}

BODY void *wide_begin(struct walk *w) { return structure_reserve(); }

BODY int wide_end(void *ctx, void *r) {
  structure_submit(r);
  return 0;
}

#endif
