/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* Calls of the engine's own interface: how they were called, and that they have returned, where
 * that may be looked at: no exception gets past a return that is probed. */
#ifndef PROFINFER_CALLS_H
#define PROFINFER_CALLS_H

#include "handlers.h"

/* A call that a thread is in. */
struct call {
  __u64 stack; /* the pointer when it began, before it moved that itself; 0: none */
  __u64 began;
  struct arguments given;
  __u32 number;
  __u32 reserved;
};

/* Those that it is in, the outermost first: parts lie within others and within a call, a call lies
 * within no other. */
#define CALL_DEPTH 4
struct call_state {
  struct call in[CALL_DEPTH];
};

/* ---- What a dialect provides ---- */
BODY struct call_state *call_state(__u32 tid);
BODY struct call_state *call_state_known(__u32 tid);

/* `began`: 0 where it begins just now. Its time is taken when there is room for it, as that of a
 * narrow record is. */
BODY int try_send_call(void *ctx, const struct call *c, __u64 began, __u64 result) {
  struct walk *w = 0;
#if TRANSPORT == TRANSPORT_PERF
  w = walk_of((__u32)bpf_get_current_pid_tgid());
  if (!w)
    return -1;
#endif
  struct call_record *r = wide_begin(w);
  if (!r)
    return -1;
  fill_header(&r->header, running_thread(), KIND_CALL, boot_ns());
  r->began = began ? began : r->header.ts;
  r->argument[0] = c->given.a;
  r->argument[1] = c->given.b;
  r->argument[2] = c->given.c;
  r->argument[3] = c->given.d;
  r->argument[4] = c->given.e;
  r->argument[5] = c->given.f;
  r->result = result;
  r->number = c->number;
  return wide_end(ctx, r);
}

BODY int is_part(__u32 number) { return number >= (__u32)CALL_PARTS; }

/* `number`: in the plan's calls. */
BODY int handle_call(void *ctx, __u32 number, __u64 stack, const struct arguments *given) {
  if (!is_active())
    return 0;
  struct call_state *c = call_state((__u32)bpf_get_current_pid_tgid());
  if (!c)
    return 0;
  const int is_at_entry = !is_part(number) && CALLS_AT_ENTRY >> number & 1;
  struct call *mine = 0;
  int i, is_within = 0;
#pragma unroll
  for (i = 0; i < CALL_DEPTH; i++) {
    struct call *call = &c->in[i];
    /* One that began no higher up the stack is gone, its return unseen; or it has jumped here. */
    if (mine || call->stack <= stack) {
      call->stack = 0;
      mine = mine ? mine : call;
    } else {
      is_within |= !is_part(call->number);
    }
  }
  /* Nobody awaits the return of a call within another, or of what lies too deep. */
  if (!mine || (is_within && !is_part(number)))
    return 0;
  mine->stack = is_at_entry ? 0 : stack;
  mine->given = *given;
  mine->number = number;
  mine->began = boot_ns();
  if (is_at_entry && try_send_call(ctx, mine, 0, 0))
    count_loss(bpf_get_smp_processor_id(), KIND_CALL);
  return 0;
}

/* `stack`: behind the return address, where that was on it. */
BODY int handle_call_return(void *ctx, __u64 stack, __u64 result) {
  struct call_state *c = call_state_known((__u32)bpf_get_current_pid_tgid());
  struct call *mine = 0;
  int i;
  if (!c)
    return 0;
#pragma unroll
  for (i = 0; i < CALL_DEPTH; i++) {
    struct call *call = &c->in[i];
    if (mine)
      call->stack = 0; /* gone, its return unseen */
    else if (call->stack && stack - call->stack <= sizeof(__u64))
      mine = call;
  }
  if (!mine)
    return 0;
  mine->stack = 0;
  if (is_active() && try_send_call(ctx, mine, mine->began, result))
    count_loss(bpf_get_smp_processor_id(), KIND_CALL);
  return 0;
}

#endif
