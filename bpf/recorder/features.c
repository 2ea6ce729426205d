/* SPDX-License-Identifier: Apache-2.0 */
#include "features.h"
#include "failure.h"
#include "hit_sites.h"
#include "message.h"
#include "programs.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

/* ---- Are there uprobe_multi links that filter whole processes? Early ones filtered threads: a
 * second thread of ours runs into a probe of our own. */

#define HITS 3

static void *run_into_probe(void *unused) {
  hit_loop(hit_stepped, HITS);
  return unused;
}

static const char *why_no_link_of(int program) {
  uint64_t offset = hit_offset(hit_stepped);
  pthread_t thread;
  int link = uprobe_link(program, "/proc/self/exe", &offset, 1, getpid(), false);
  if (link < 0 && (errno == EINVAL || errno == EOPNOTSUPP))
    return "this kernel has no uprobe_multi links";
  if (link < 0)
    return text("uprobe_multi links cannot be made here: %s", strerror(errno));
  uint64_t before = programs_stats(program).runs;
  int error = pthread_create(&thread, 0, run_into_probe, 0);
  if (!error)
    pthread_join(thread, 0);
  uint64_t seen = programs_stats(program).runs - before;
  close(link);
  if (error)
    return text("uprobe_multi links could not be tried: %s", strerror(error));
  return seen == HITS ? "" : "this kernel's uprobe_multi links see only a process's first thread";
}

static const char *why_no_link(const char *wanted, bool by_bcc) {
  if (!strcmp(wanted, "perf_event"))
    return "a link is not asked for";
  if (by_bcc)
    return "BCC loads no programs for uprobe_multi links";
  int program = uprobe_nothing(true);
  if (program < 0)
    return text("cannot load a BPF program: %s", strerror(errno));
  int stats = bpf_enable_stats(BPF_STATS_RUN_TIME);
  const char *why = stats < 0 ? text("uprobe_multi links could not be tried: %s", strerror(errno))
                              : why_no_link_of(program);
  close(stats);
  close(program);
  return why;
}

/* ---- What programs can do */

static bool loads(const struct bpf_insn *code, size_t count) {
  int program = bpf_prog_load(BPF_PROG_TYPE_KPROBE, 0, "GPL", code, count, 0);
  if (program >= 0)
    close(program);
  return program >= 0;
}
#define LOADS(...)                                                                                 \
  loads((const struct bpf_insn[]){__VA_ARGS__},                                                    \
        sizeof((const struct bpf_insn[]){__VA_ARGS__}) / sizeof(struct bpf_insn))

#define SET_TO_0(register)                                                                         \
  { .code = 0xb7, .dst_reg = register }
#define COPY(to, from)                                                                             \
  { .code = 0xbf, .dst_reg = to, .src_reg = from }
#define CALL(helper)                                                                               \
  { .code = 0x85, .imm = helper }
#define LEAVE                                                                                      \
  { .code = 0x95 }
/* *(u64 *)(r10 - 8) = r0; r0 = cmpxchg(r10 - 8, r0, r1) */
#define STORE                                                                                      \
  { .code = 0x7b, .dst_reg = 10, .off = -8 }
#define EXCHANGE                                                                                   \
  { .code = 0xdb, .dst_reg = 10, .src_reg = 1, .off = -8, .imm = 0xf1 }

static const char *why_no_ring(void) {
  int map = bpf_map_create(BPF_MAP_TYPE_RINGBUF, 0, 0, 0, sysconf(_SC_PAGESIZE), 0);
  if (map >= 0)
    close(map);
  if (map >= 0 && LOADS(SET_TO_0(0), STORE, SET_TO_0(1), EXCHANGE, SET_TO_0(0), LEAVE))
    return "";
  return "this kernel lacks the atomic instructions or the ring buffer of the ring transport";
}

struct features features_find(const char *transport, const char *attach, bool by_bcc) {
  struct features features = {
      .why_no_ring = why_no_ring(),
      .why_no_link = why_no_link(attach, by_bcc),
      .boot_clock = LOADS(CALL(BPF_FUNC_ktime_get_boot_ns), SET_TO_0(0), LEAVE),
      .task_registers = LOADS(CALL(BPF_FUNC_get_current_task_btf), COPY(1, 0),
                              CALL(BPF_FUNC_task_pt_regs), SET_TO_0(0), LEAVE),
  };
  bool has_ring = !*features.why_no_ring;
  features.multi = !*features.why_no_link;
  if (!features.multi && !strcmp(attach, "uprobe_multi"))
    fail(EXIT_KERNEL, "record --attach auto", "no probes by uprobe_multi link: %s",
         features.why_no_link);
  if (!has_ring && !strcmp(transport, "ring"))
    fail(EXIT_KERNEL, "record --transport perf", "%s", features.why_no_ring);
  features.transport =
      has_ring && strcmp(transport, "perf") ? TRANSPORT_BY_RING : TRANSPORT_BY_PERF;
  return features;
}

struct features features_said(json_object *said) {
  const char *reason = message_text(said, "attach_reason");
  return (struct features){
      .transport =
          strcmp(message_text(said, "transport"), "perf") ? TRANSPORT_BY_RING : TRANSPORT_BY_PERF,
      .why_no_ring = "",
      .multi = !strcmp(message_text(said, "attach"), "uprobe_multi"),
      .why_no_link = text("%s", reason),
      .boot_clock = message_flag(said, "boot_clock"),
      .task_registers = message_flag(said, "task_registers"),
  };
}

void features_say(const struct features *features, json_object *in) {
  bool by_perf = features->transport == TRANSPORT_BY_PERF;
  json_object_object_add(in, "transport", json_object_new_string(by_perf ? "perf" : "ring"));
  json_object_object_add(in, "attach",
                         json_object_new_string(features->multi ? "uprobe_multi" : "perf_event"));
  json_object_object_add(in, "attach_reason", json_object_new_string(features->why_no_link));
  json_object_object_add(in, "boot_clock", json_object_new_boolean(features->boot_clock));
  json_object_object_add(in, "task_registers", json_object_new_boolean(features->task_registers));
}
