/* SPDX-License-Identifier: Apache-2.0 */
#include "features.h"
#include "failure.h"
#include "uprobes.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <link.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

/* ---- Are there uprobe_multi links that filter whole processes? Early ones filtered threads: a
 * second thread of ours runs into a probe of our own. */

#define HITS 3

__attribute__((noinline, noclone)) static void probed(void) { __asm__ volatile("nop\nnop"); }

static void *run_into_probe(void *unused) {
  for (int i = 0; i < HITS; i++)
    probed();
  return unused;
}

/* The offset in this program's file of an address in it. */
static int find_offset(struct dl_phdr_info *program, size_t size, void *offset) {
  (void)size;
  uint64_t address = (uintptr_t)probed - program->dlpi_addr;
  for (int i = 0; i < program->dlpi_phnum; i++) {
    const ElfW(Phdr) *segment = &program->dlpi_phdr[i];
    if (segment->p_type == PT_LOAD && address >= segment->p_vaddr &&
        address < segment->p_vaddr + segment->p_filesz) {
      *(uint64_t *)offset = address - segment->p_vaddr + segment->p_offset;
      return 1;
    }
  }
  return 0;
}

static uint64_t runs(int program) {
  struct bpf_prog_info info = {0};
  __u32 size = sizeof(info);
  return bpf_obj_get_info_by_fd(program, &info, &size) ? 0 : info.run_cnt;
}

/* Why there are none; "" where there are. */
static const char *why_no_link(void) {
  /* r0 = 0; exit. The kernel counts the runs. */
  const struct bpf_insn nothing[] = {{.code = 0xb7}, {.code = 0x95}};
  LIBBPF_OPTS(bpf_prog_load_opts, how, .expected_attach_type = UPROBE_MULTI);
  uint64_t offset = 0;
  pthread_t thread;
  int program = bpf_prog_load(BPF_PROG_TYPE_KPROBE, 0, "GPL", nothing, 2, &how);
  int stats = bpf_enable_stats(BPF_STATS_RUN_TIME);
  int link = -1;
  const char *why = "uprobe_multi links could not be tried";
  if (program >= 0 && stats >= 0 && dl_iterate_phdr(find_offset, &offset)) {
    link = uprobes_link(program, "/proc/self/exe", offset, getpid(), false);
    if (link < 0)
      why = "this kernel has no uprobe_multi links";
  }
  if (link >= 0 && !pthread_create(&thread, 0, run_into_probe, 0)) {
    pthread_join(thread, 0);
    why = runs(program) == HITS
              ? ""
              : "this kernel's uprobe_multi links see only a process's first thread";
  }
  for (int *fd = (int[]){link, stats, program, -2}; *fd != -2; fd++)
    if (*fd >= 0)
      close(*fd);
  return why;
}

/* ---- What the ring transport needs */

static bool has_atomics(void) {
  /* *(u64 *)(r10 - 8) = r0; r0 = cmpxchg(r10 - 8, r0, r1); r0 = 0; exit */
  const struct bpf_insn exchange[] = {
      {.code = 0xb7},
      {.code = 0x7b, .dst_reg = 10, .off = -8},
      {.code = 0xb7, .dst_reg = 1},
      {.code = 0xdb, .dst_reg = 10, .src_reg = 1, .off = -8, .imm = 0xf1},
      {.code = 0xb7},
      {.code = 0x95}};
  int program = bpf_prog_load(BPF_PROG_TYPE_KPROBE, 0, "GPL", exchange, 6, 0);
  if (program >= 0)
    close(program);
  return program >= 0;
}

static bool has_rings(void) {
  int map = bpf_map_create(BPF_MAP_TYPE_RINGBUF, 0, 0, 0, sysconf(_SC_PAGESIZE), 0);
  if (map >= 0)
    close(map);
  return map >= 0 && has_atomics();
}

static enum transport choose(const char *wanted) {
  if (!strcmp(wanted, "perf"))
    return TRANSPORT_BY_PERF;
  if (has_rings())
    return TRANSPORT_BY_RING;
  if (!strcmp(wanted, "ring"))
    fail(EXIT_KERNEL, "--transport perf needs less",
         "this kernel lacks the atomic instructions or the ring buffer of the ring transport");
  return TRANSPORT_BY_PERF;
}

struct features features_find(const char *transport) {
  const char *why = why_no_link();
  return (struct features){
      .transport = choose(transport),
      .multi = !*why,
      .why_no_link = why,
      .boot_clock =
          libbpf_probe_bpf_helper(BPF_PROG_TYPE_KPROBE, BPF_FUNC_ktime_get_boot_ns, 0) == 1,
  };
}
