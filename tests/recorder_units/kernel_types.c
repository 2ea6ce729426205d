/* SPDX-License-Identifier: Apache-2.0 */
/* What libbpf writes, the recorder reads. */
#include "kernel_types.h"
#include "harness.h"

#include <bpf/btf.h>

/* The types of a kernel of its own; `has_thread_info`: the CPU stands in there. */
static struct btf *make_types(bool has_thread_info, const char *state) {
  struct btf *btf = btf__new_empty();
  int number = btf__add_int(btf, "int", 4, BTF_INT_SIGNED);
  int large = btf__add_int(btf, "long", 8, 0);
  int letter = btf__add_int(btf, "char", 1, BTF_INT_CHAR);
  int name = btf__add_array(btf, number, letter, 16);
  int info = btf__add_struct(btf, "thread_info", 16);
  btf__add_field(btf, "flags", large, 0, 0);
  if (has_thread_info)
    btf__add_field(btf, "cpu", number, 8 * 8, 0);
  btf__add_enum(btf, "colour", 4);
  btf__add_enum_value(btf, "red", 1);
  int unnamed = btf__add_union(btf, 0, 8);
  btf__add_field(btf, "pid", number, 0, 0);
  btf__add_field(btf, "other", large, 0, 0);
  int outer = btf__add_struct(btf, 0, 24);
  btf__add_field(btf, "prio", number, 4 * 8, 0);
  btf__add_field(btf, 0, unnamed, 8 * 8, 0);
  btf__add_struct(btf, "task_struct", 200);
  btf__add_field(btf, "thread_info", info, 0, 0);
  btf__add_field(btf, state, number, 16 * 8, 0);
  btf__add_field(btf, 0, outer, 24 * 8, 0);
  if (!has_thread_info)
    btf__add_field(btf, "cpu", number, 52 * 8, 0);
  btf__add_field(btf, "bits", number, 56 * 8, 3); /* the offsets of this struct are bit fields' */
  btf__add_field(btf, "exit_state", number, 60 * 8, 0);
  btf__add_field(btf, "comm", name, 64 * 8, 0);
  btf__add_field(btf, "nvcsw", large, 80 * 8, 0);
  btf__add_field(btf, "nivcsw", large, 88 * 8, 0);
  btf__add_field(btf, "group_leader", large, 96 * 8, 0);
  btf__add_field(btf, "thread_pid", large, 104 * 8, 0);
  return btf;
}

/* What a task's numbers in PID namespaces hang on: a struct upid has its pointer behind so many
 * bytes. */
static void add_numbers(struct btf *btf, int before_pointer) {
  int number = btf__add_int(btf, "unsigned int", 4, 0);
  int pointer = btf__add_ptr(btf, 0);
  int common = btf__add_struct(btf, "ns_common", 24);
  btf__add_field(btf, "inum", number, 16 * 8, 0);
  btf__add_struct(btf, "pid_namespace", 100);
  btf__add_field(btf, "ns", common, 72 * 8, 0);
  int upid = btf__add_struct(btf, "upid", before_pointer + 8);
  btf__add_field(btf, "nr", number, 0, 0);
  btf__add_field(btf, "ns", pointer, before_pointer * 8, 0);
  int upids = btf__add_array(btf, number, upid, 0);
  btf__add_struct(btf, "pid", 96);
  btf__add_field(btf, "level", number, 4 * 8, 0);
  btf__add_field(btf, "numbers", upids, 96 * 8, 0);
}

static void add_tracepoint(struct btf *btf, int arguments) {
  int function = btf__add_func_proto(btf, 0);
  for (int i = 0; i <= arguments; i++) /* the first is the tracepoint's own */
    btf__add_func_param(btf, "", 1);
  btf__add_typedef(btf, "btf_trace_sched_switch", btf__add_ptr(btf, function));
}

static struct kernel_types found_in(struct btf *btf) {
  struct kernel_types found;
  __u32 size;
  const void *data = btf__raw_data(btf, &size);
  kernel_types_find(data, size, &found);
  return found;
}

static void every_field(void) {
  struct btf *btf = make_types(false, "__state");
  add_tracepoint(btf, 4);
  struct kernel_types found = found_in(btf);
  CHECK_TEXT(found.problem, "");
  CHECK_EQUAL(found.task_pid, 24 + 8);
  CHECK_EQUAL(found.task_prio, 24 + 4);
  CHECK_EQUAL(found.task_comm, 64);
  CHECK_EQUAL(found.task_state, 16);
  CHECK_EQUAL(found.task_exit_state, 60);
  CHECK_EQUAL(found.task_cpu, 52);
  CHECK_EQUAL(found.switch_tells_state, 1);
  CHECK_EQUAL(found.switch_counts, 80);
}

static void numbers_in_namespaces(void) {
  struct btf *btf = make_types(false, "__state");
  add_tracepoint(btf, 4);
  add_numbers(btf, 8);
  struct kernel_types found = found_in(btf);
  CHECK_EQUAL(found.task_thread_pid, 104);
  CHECK_EQUAL(found.task_group_leader, 96);
  CHECK_EQUAL(found.pid_depth, 4);
  CHECK_EQUAL(found.pid_numbers, 96);
  CHECK_EQUAL(found.namespace_inode, 72 + 16);
}

static void numbers_that_stand_otherwise(void) {
  struct btf *btf = make_types(false, "__state");
  add_tracepoint(btf, 4);
  CHECK_EQUAL(found_in(btf).pid_numbers, -1);
  add_numbers(btf, 16);
  CHECK_EQUAL(found_in(btf).pid_numbers, -1);
  CHECK_TEXT(found_in(btf).problem, ""); /* another matter */
}

/* When a file was changed: one field of two words, or, since Linux 6.11, two. */
static struct btf *make_files(bool is_one_field) {
  struct btf *btf = btf__new_empty();
  int large = btf__add_int(btf, "long", 8, 0), number = btf__add_int(btf, "int", 4, 0);
  int time = btf__add_struct(btf, "timespec64", 16);
  btf__add_field(btf, "tv_sec", large, 0, 0);
  btf__add_field(btf, "tv_nsec", large, 8 * 8, 0);
  btf__add_struct(btf, "inode", 200);
  btf__add_field(btf, "i_ino", large, 64 * 8, 0);
  if (is_one_field) {
    btf__add_field(btf, "__i_ctime", time, 120 * 8, 0);
  } else {
    btf__add_field(btf, "i_ctime_sec", large, 104 * 8, 0);
    btf__add_field(btf, "i_ctime_nsec", number, 124 * 8, 0);
  }
  int function = btf__add_func_proto(btf, 0);
  btf__add_func(btf, "bpf_iter_task_vma_new", BTF_FUNC_GLOBAL, function);
  return btf;
}

static void files_and_functions(void) {
  struct kernel_types found = found_in(make_files(true));
  CHECK_EQUAL(found.inode_number, 64);
  CHECK_EQUAL(found.inode_changed_s, 120);
  CHECK_EQUAL(found.inode_changed_ns, 128);
  CHECK_EQUAL(found.areas_begin, 6);
  CHECK_EQUAL(found.areas_next, -1);
  CHECK_EQUAL(found.area_file, -1);
  found = found_in(make_files(false));
  CHECK_EQUAL(found.inode_changed_s, 104);
  CHECK_EQUAL(found.inode_changed_ns, 124);
}

/* How a task is throttled: its own field, or what its queue counts. */
static struct btf *make_throttling(bool is_by_task, int before) {
  struct btf *btf = btf__new_empty();
  int number = btf__add_int(btf, "int", 4, 0), large = btf__add_int(btf, "long", 8, 0);
  int entity = btf__add_struct(btf, "sched_entity", 16);
  btf__add_field(btf, "cfs_rq", large, 8 * 8, 0);
  btf__add_struct(btf, "task_struct", 100);
  btf__add_field(btf, "se", entity, 16 * 8, 0);
  if (is_by_task)
    btf__add_field(btf, "throttled", number, 40 * 8, 0);
  btf__add_field(btf, "tgid", number, 44 * 8, 0);
  btf__add_struct(btf, "cfs_rq", 100);
  btf__add_field(btf, "rq", large, 8 * 8, 0);
  btf__add_field(btf, "throttle_count", number, 16 * 8, 0);
  if (is_by_task)
    btf__add_field(btf, "throttled_limbo_list", large, 24 * 8, 0);
  btf__add_field(btf, "throttled_clock_self", large, 32 * 8, 0);
  btf__add_field(btf, "throttled_clock_self_time", large, before * 8, 0);
  btf__add_struct(btf, "rq", 100);
  btf__add_field(btf, "clock", large, 24 * 8, 0);
  return btf;
}

static void throttling(void) {
  struct kernel_types found = found_in(make_throttling(true, 40));
  CHECK_EQUAL(found.task_throttled, 40);
  CHECK_EQUAL(found.queue_throttles, -1);
  CHECK_EQUAL(found.task_tgid, 44);
  CHECK_EQUAL(found.task_queue, 24);
  CHECK_EQUAL(found.queue_throttled_time, 32);
  CHECK_EQUAL(found.queue_cpu, 8);
  CHECK_EQUAL(found.cpu_clock, 24);
  found = found_in(make_throttling(false, 48)); /* the two do not stand together */
  CHECK_EQUAL(found.task_throttled, -1);
  CHECK_EQUAL(found.queue_throttles, 16);
  CHECK_EQUAL(found.queue_throttled_time, -1);
  found = found_in(make_files(true)); /* none of it */
  CHECK_EQUAL(found.task_throttled, -1);
  CHECK_EQUAL(found.queue_throttles, -1);
}

static void names_of_other_kernels(void) {
  struct btf *btf = make_types(true, "state");
  add_tracepoint(btf, 3);
  struct kernel_types found = found_in(btf);
  CHECK_TEXT(found.problem, "");
  CHECK_EQUAL(found.task_state, 16);
  CHECK_EQUAL(found.task_cpu, 8);
  CHECK_EQUAL(found.switch_tells_state, 0);
}

static void what_is_missing_is_said(void) {
  struct btf *btf = make_types(false, "condition");
  add_tracepoint(btf, 3);
  CHECK_TEXT(found_in(btf).problem, "this kernel's struct task_struct has no __state");
  CHECK_EQUAL(found_in(btf).switch_counts, 80); /* another matter */
  CHECK_TEXT(found_in(make_types(false, "state")).problem,
             "this kernel's BTF has no btf_trace_sched_switch");
}

static void what_is_cut_or_no_btf(void) {
  struct btf *btf = make_types(false, "state");
  struct kernel_types found;
  __u32 size;
  const char *data = btf__raw_data(btf, &size);
  for (size_t length = 0; length < size; length++) {
    /* A copy without a byte behind it: reading on would be noticed. */
    char *copy = memcpy(malloc(length ? length : 1), data, length);
    kernel_types_find(copy, length, &found);
    CHECK(strstr(found.problem, "cannot be read: "));
    CHECK_EQUAL(found.switch_counts, -1);
    free(copy);
  }
  kernel_types_find("\x7f"
                    "ELF, or what else comes to somebody's mind",
                    40, &found);
  CHECK(strstr(found.problem, "no BTF of this machine's byte order"));
}

/* A nameless struct that is a member of itself ends the search, not the program. */
static void types_that_go_round(void) {
  struct btf *btf = btf__new_empty();
  btf__add_int(btf, "int", 4, 0);
  btf__add_struct(btf, "task_struct", 8);
  for (int i = 0; i < 60; i++)
    btf__add_field(btf, 0, 3, 0, 0);
  btf__add_struct(btf, 0, 8);
  for (int i = 0; i < 60; i++)
    btf__add_field(btf, 0, 3, 0, 0);
  CHECK_TEXT(found_in(btf).problem, "this kernel's struct task_struct has no pid");
}

static void this_kernels_are_read_in_a_child(void) {
  CHECK(*kernel_types()->problem || kernel_types()->task_pid > 0);
  CHECK(*kernel_types()->problem || kernel_types_peak_kb() > 0);
  CHECK_EQUAL(kernel_switch_counts(), kernel_types()->switch_counts);
  CHECK_EQUAL(waitpid(-1, 0, WNOHANG), -1); /* it has ended, and been waited for */
}

int main(void) {
  RUN(every_field);
  RUN(numbers_in_namespaces);
  RUN(numbers_that_stand_otherwise);
  RUN(files_and_functions);
  RUN(throttling);
  RUN(names_of_other_kernels);
  RUN(what_is_missing_is_said);
  RUN(what_is_cut_or_no_btf);
  RUN(types_that_go_round);
  RUN(this_kernels_are_read_in_a_child);
}
