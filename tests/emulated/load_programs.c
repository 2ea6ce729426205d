// Loads BPF objects of profinfer's under the running kernel, as a recorder would:
//
//   load_programs OBJECT... [NAME=VALUE]...
//
// Each NAME is a parameter of bpf/parameters.h. Prints a line "loaded: OBJECT PROGRAM" for every
// program, and "calls: PROGRAM FUNCTION" for what it calls of the kernel's own. When one is refused
// libbpf prints the verifier's log, and the exit status is 1.
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RING_SHIFT 12
#define KINDS 64 // more than there are
#define COUNTERS 16

// Sets one integer of the read-only data; an object without that name is left as it is.
static void set_parameter(struct bpf_object *object, const char *name, __s32 value) {
  const struct btf *btf = bpf_object__btf(object);
  struct bpf_map *map;
  bpf_object__for_each_map(map, object) {
    size_t size;
    char *data = bpf_map__initial_value(map, &size);
    const int section = btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC);
    if (!data || section < 0 || !strstr(bpf_map__name(map), ".rodata"))
      continue;
    const struct btf_type *type = btf__type_by_id(btf, section);
    const struct btf_var_secinfo *variable = btf_var_secinfos(type);
    for (int i = 0; i < btf_vlen(type); i++, variable++) {
      const struct btf_type *of = btf__type_by_id(btf, variable->type);
      if (!strcmp(btf__name_by_offset(btf, of->name_off), name) &&
          variable->offset + sizeof value <= size)
        memcpy(data + variable->offset, &value, sizeof value);
    }
  }
}

static void set_entries(struct bpf_object *object, const char *name, __u32 entries) {
  struct bpf_map *map = bpf_object__find_map_by_name(object, name);
  if (map)
    bpf_map__set_max_entries(map, entries);
}

// Has them call functions of the kernel's own (KERNEL_FUNCTION), where this one has all of them.
static void set_functions(struct bpf_object *object) {
  static const char *const names[] = {"bpf_iter_task_vma_new", "bpf_iter_task_vma_next",
                                      "bpf_iter_task_vma_destroy"};
  struct btf *kernel = btf__load_vmlinux_btf();
  __s32 numbers[3];
  for (int i = 0; i < 3; i++) {
    numbers[i] = kernel ? btf__find_by_name_kind(kernel, names[i], BTF_KIND_FUNC) : -1;
    if (numbers[i] < 0)
      return;
  }
  btf__free(kernel);
  set_parameter(object, "LOOKS_AT_FILES", 1);
  struct bpf_program *program;
  bpf_object__for_each_program(program, object) {
    struct bpf_insn *code = (struct bpf_insn *)bpf_program__insns(program);
    for (size_t i = 0; i < bpf_program__insn_cnt(program); i++) {
      const __s32 function = code[i].imm - 0x10000;
      if (code[i].code != (BPF_JMP | BPF_CALL) || code[i].src_reg || function < 0 || function > 2)
        continue;
      code[i].src_reg = 2; // BPF_PSEUDO_KFUNC_CALL
      code[i].imm = numbers[function];
      printf("calls: %s %s\n", bpf_program__name(program), names[function]);
    }
  }
}

static int load(const char *path, char **parameters) {
  struct bpf_object *object = bpf_object__open_file(path, NULL);
  if (!object)
    return 1;
  for (; *parameters; parameters++) {
    const char *equals = strchr(*parameters, '=');
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)(equals - *parameters), *parameters);
    set_parameter(object, name, atoi(equals + 1));
  }
  const __u32 cpus = libbpf_num_possible_cpus();
  set_parameter(object, "RING_SHIFT", RING_SHIFT);
  set_parameter(object, "CPU_COUNT", cpus);
  set_entries(object, "ring_heads", cpus);
  set_entries(object, "ring_slots", cpus << RING_SHIFT);
  set_entries(object, "structure_ring", 1 << 20);
  set_entries(object, "record_events", cpus);
  set_entries(object, "structure_events", cpus);
  set_entries(object, "stops", cpus);
  set_entries(object, "counter_events", cpus * COUNTERS);
  set_entries(object, "counter_threads", 4096);
  set_entries(object, "loss_map", cpus * KINDS);
  set_entries(object, "sched_heads", cpus);
  set_entries(object, "sched_slots", cpus << RING_SHIFT);
  set_entries(object, "sched_events", cpus);
  set_entries(object, "sched_losses", cpus * KINDS);
  set_entries(object, "ended_threads", 4096);
  set_entries(object, "named_strangers", 4096);
  set_functions(object);
  const int failed = bpf_object__load(object);
  struct bpf_program *program;
  if (!failed)
    bpf_object__for_each_program(program, object)
        printf("loaded: %s %s\n", path, bpf_program__name(program));
  fflush(stdout);
  bpf_object__close(object);
  return failed != 0;
}

int main(int argc, char **argv) {
  int objects = 1, failed = 0;
  while (objects < argc && !strchr(argv[objects], '='))
    objects++;
  for (int i = 1; i < objects; i++)
    failed |= load(argv[i], argv + objects);
  return failed;
}
