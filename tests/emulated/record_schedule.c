// Records what the scheduler does with this program, with the programs of bpf/scheduler.bpf.c:
//
//   record_schedule OBJECT [NAME=VALUE]...
//
// It sleeps SLEEPS times, takes another name and makes a child that ends. Prints how often the
// records say so. The perf transport.
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <linux/types.h>
#include <records.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLEEPS 20
#define PRIORITY 120
#define INTERRUPTIBLE 1

static const char *const TRACEPOINTS[][2] = {
    {"on_switch", "sched_switch"},     {"on_waking", "sched_waking"},
    {"on_newtask", "task_newtask"},    {"on_rename", "task_rename"},
    {"on_exit", "sched_process_exit"}, {"on_free", "sched_process_free"},
};

static __u32 me, child;
static int asleep, awake, woken, priorities, made, ended, gone;
static char name[17], child_name[17];

static void take(void *context, int cpu, void *data, __u32 size) {
  const struct record *r = data;
  const __u32 other = (__u32)r->a;
  (void)context, (void)cpu, (void)size;
  if (r->kind == KIND_SWITCH && r->tid == me)
    asleep += (r->a >> 32 & 0xffff) == INTERRUPTIBLE;
  if (r->kind == KIND_SWITCH && other == me)
    awake++;
  if (r->kind == KIND_WAKING && other == me) {
    woken++;
    priorities += r->a >> 48 == PRIORITY;
  }
  if (r->kind == KIND_RENAME && r->tid == me)
    memcpy(name, &r->a, 16);
  if (r->kind == KIND_NEWNAME && r->tid == child)
    memcpy(child_name, &r->a, 16);
  made += r->kind == KIND_NEWTASK && other == child && r->a >> 32 == me;
  ended += r->kind == KIND_EXIT && r->tid == child;
  gone += r->kind == KIND_FREE && r->tid == child;
}

static void set_parameter(struct bpf_object *object, const char *text) {
  const struct btf *btf = bpf_object__btf(object);
  struct bpf_map *map;
  const struct btf_type *type =
      btf__type_by_id(btf, btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC));
  const char *value = strchr(text, '=');
  bpf_object__for_each_map(map, object) {
    size_t size;
    char *data = bpf_map__initial_value(map, &size);
    if (!data || !strstr(bpf_map__name(map), ".rodata"))
      continue;
    const struct btf_var_secinfo *variable = btf_var_secinfos(type);
    for (int i = 0; i < btf_vlen(type); i++, variable++) {
      const char *found = btf__name_by_offset(btf, btf__type_by_id(btf, variable->type)->name_off);
      const __s32 number = atoi(value + 1);
      if (strlen(found) == (size_t)(value - text) && !strncmp(found, text, value - text))
        memcpy(data + variable->offset, &number, sizeof number);
    }
  }
}

static int map_fd(struct bpf_object *object, const char *of) {
  return bpf_object__find_map_fd_by_name(object, of);
}

int main(int argc, char **argv) {
  struct bpf_object *object = argc > 1 ? bpf_object__open_file(argv[1], NULL) : NULL;
  if (!object)
    return 2;
  for (int i = 2; i < argc; i++)
    set_parameter(object, argv[i]);
  const __u32 cpus = libbpf_num_possible_cpus(), zero = 0;
  bpf_map__set_max_entries(bpf_object__find_map_by_name(object, "sched_heads"), cpus);
  bpf_map__set_max_entries(bpf_object__find_map_by_name(object, "sched_events"), cpus);
  bpf_map__set_max_entries(bpf_object__find_map_by_name(object, "sched_losses"),
                           cpus * SCHEDULER_KINDS);
  bpf_program__set_autoload(bpf_object__find_program_by_name(object, "on_reason"), false);
  if (bpf_object__load(object))
    return 3;
  struct perf_buffer *buffers =
      perf_buffer__new(map_fd(object, "sched_events"), 64, take, NULL, NULL, NULL);
  const struct scheduler_control control = {.active = 1, .target = getpid()};
  if (!buffers || bpf_map_update_elem(map_fd(object, "sched_control"), &zero, &control, BPF_ANY))
    return 4;
  for (size_t i = 0; i < sizeof TRACEPOINTS / sizeof *TRACEPOINTS; i++) {
    struct bpf_program *program = bpf_object__find_program_by_name(object, TRACEPOINTS[i][0]);
    if (!bpf_program__attach_raw_tracepoint(program, TRACEPOINTS[i][1])) {
      fprintf(stderr, "%s cannot be attached\n", TRACEPOINTS[i][1]);
      return 5;
    }
  }
  me = getpid();
  prctl(PR_SET_NAME, "other-name");
  for (int i = 0; i < SLEEPS; i++)
    usleep(10000);
  perf_buffer__consume(buffers);
  printf("asleep: %d\nawake: %d\nwoken: %d\npriorities: %d\nname: %s\n", asleep, awake, woken,
         priorities, name);
  child = fork();
  if (!child)
    _exit(0);
  waitpid(child, NULL, 0);
  sleep(1); // until the kernel has let go of it
  perf_buffer__consume(buffers);
  printf("threads: %d made as %s, %d ended, %d gone\n", made, child_name, ended, gone);
  return 0;
}
