/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The libbpf dialect of launch.h. */
#include "libbpf.h"

PARAMETER(CHILD_OFFSET)

#include "launch.h"

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __type(key, __u32);
  __type(value, __u32);
  __uint(max_entries, 16384);
} family SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __type(key, __u32);
  __type(value, __u64);
  __uint(max_entries, 1024);
} held SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(__u32));
} stops SEC(".maps");

BODY int is_family(__u32 pid) { return bpf_map_lookup_elem(&family, &pid) != 0; }

BODY void family_add(__u32 pid) {
  __u32 one = 1;
  bpf_map_update_elem(&family, &pid, &one, BPF_ANY);
}

BODY void family_delete(__u32 pid) { bpf_map_delete_elem(&family, &pid); }

BODY long held_add(__u32 pid, __u64 now) { return bpf_map_update_elem(&held, &pid, &now, BPF_ANY); }

BODY void held_delete(__u32 pid) { bpf_map_delete_elem(&held, &pid); }

BODY long tell_stopped(void *ctx, __u32 pid) {
  return bpf_perf_event_output(ctx, &stops, BPF_F_CURRENT_CPU, &pid, sizeof(pid));
}

SEC("tracepoint") int on_exec(void *ctx) { return stop_here(ctx); }

SEC("uprobe") int on_objects_changed(void *ctx) { return stop_here(ctx); }

SEC("uprobe") int on_work(void *ctx) { return stop_at_work(ctx); }

SEC("tracepoint") int on_fork(void *ctx) { return follow_fork(ctx); }
