/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/* The libbpf dialect of launch.h. */
#include "libbpf.h"
#include "parameters.h"

PARAMETER(CHILD_OFFSET)
PARAMETER(GROUP_DEAD_OFFSET)
PID_PARAMETERS(PARAMETER)
FILE_PARAMETERS(PARAMETER)

#include "known_files.h"
#include "launch.h"

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH); /* there may be some that have ended */
  __type(key, __u32);
  __type(value, __u32);
  __uint(max_entries, 65536);
} family SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __type(key, __u32);
  __type(value, __u64);
  __uint(max_entries, 1024);
} held SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __type(key, __u32);
  __type(value, struct work);
  __uint(max_entries, 1024);
} works SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __type(key, struct file_key);
  __type(value, __u32);
  __uint(max_entries, 4096);
} known_files SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __type(key, __u32);
  __type(value, struct root);
  __uint(max_entries, 1);
} first_root SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(__u32));
} stops SEC(".maps");

BODY __u32 family_find(__u32 pid) {
  __u32 *what = bpf_map_lookup_elem(&family, &pid);
  return what ? *what : 0;
}

BODY void family_set(__u32 pid, __u32 what) { bpf_map_update_elem(&family, &pid, &what, BPF_ANY); }

BODY void family_delete(__u32 pid) { bpf_map_delete_elem(&family, &pid); }

BODY long held_add(__u32 pid, __u64 now) { return bpf_map_update_elem(&held, &pid, &now, BPF_ANY); }

BODY void held_delete(__u32 pid) { bpf_map_delete_elem(&held, &pid); }

BODY void work_set(__u32 pid, const struct work *work) {
  bpf_map_update_elem(&works, &pid, work, BPF_ANY);
}

BODY __u32 file_find(const struct file_key *key) {
  __u32 *what = bpf_map_lookup_elem(&known_files, key);
  return what ? *what : 0;
}

BODY struct root *root_kept(void) { return bpf_map_lookup_elem(&first_root, &(__u32){0}); }

BODY int is_known(void) { return executes_known(HARMLESS); }

BODY int is_known_program(void) {
  return LOOKS_AT_FILES && has_first_root() && executes_known(WATCHED);
}

BODY long tell_stopped(void *ctx, __u32 pid) {
  return bpf_perf_event_output(ctx, &stops, BPF_F_CURRENT_CPU, &pid, sizeof(pid));
}

SEC("tracepoint") int on_exec(void *ctx) { return stop_after_exec(ctx); }

SEC("uprobe") int on_objects_changed(void *ctx) { return stop_loaded(ctx); }

SEC("uprobe") int on_work(struct registers *ctx) {
  return stop_at_work(ctx, ARGUMENT(ctx, 1), ARGUMENT(ctx, 2));
}

SEC("uprobe") int on_graph(struct registers *ctx) {
  return see_work(ARGUMENT(ctx, 1), ARGUMENT(ctx, 2));
}

SEC("tracepoint") int on_fork(void *ctx) { return follow_fork(ctx); }

SEC("raw_tracepoint") int on_fork_inside(void *ctx) { return follow_fork_inside(ctx); }

SEC("kprobe") int on_start(void *ctx) { return stop_born(ctx); }

SEC("tracepoint") int on_exit(void *ctx) { return leave_family(ctx); }
