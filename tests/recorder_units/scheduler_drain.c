/* SPDX-License-Identifier: Apache-2.0 */
/* What a drain of the scheduler's rings writes. Files in memory stand in for the maps; that the
 * kernel skips a program is real, which needs root. */
#include "capture.h"
#include "harness.h"
#include "scheduler.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define CPUS 2
#define SLOTS 128 /* a page */
#define SIZE (SLOTS * sizeof(struct record))
#define MAGIC_SIZE 16

static struct ring_head *heads;
static struct record *slots;
static struct loss *lost;
static struct scheduler scheduler;

static void *make(int *fd, size_t size) {
  *fd = memfd_create("map", 0);
  CHECK(*fd >= 0 && !ftruncate(*fd, size));
  void *start = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
  CHECK(start != MAP_FAILED);
  return start;
}

/* A recording that begins, of `program` in the place of all. */
static void begin(int program) {
  int heads_fd, slots_fd, lost_fd;
  heads = make(&heads_fd, sysconf(_SC_PAGESIZE));
  slots = make(&slots_fd, CPUS * SIZE);
  lost = make(&lost_fd, sysconf(_SC_PAGESIZE));
  scheduler = (struct scheduler){.is_all = true, .lost = lost};
  scheduler.rings = ring_transport(heads_fd, slots_fd, NO_WIDE, CPUS, SIZE, 0);
  for (int i = 0; i < SCHEDULER_PROGRAMS; i++)
    scheduler.events[i].program = scheduler.events[i].attached = program;
  capture_open("c.raw", -1, true);
  scheduler_begin(&scheduler);
  scheduler_begun(&scheduler, boot_ns());
}

static void emit(unsigned cpu, enum scheduler_kind kind, uint32_t tid, uint64_t a) {
  uint64_t number = heads[cpu].next++;
  slots[cpu * SLOTS + number] =
      (struct record){.ts = boot_ns(), .a = a, .tid = tid, .cpu = cpu, .kind = kind, .mark = 1};
}

/* ---- The capture, frame by frame */

static FILE *file;

struct frame {
  uint32_t kind, reserved;
  uint64_t ts, length;
  char data[1 << 18];
};

static const struct frame *next(void) {
  static struct frame frame;
  size_t head = offsetof(struct frame, data);
  if (!file) {
    file = fopen("c.raw", "r");
    CHECK(file && !fseek(file, MAGIC_SIZE, SEEK_SET));
  }
  CHECK_EQUAL(fread(&frame, 1, head, file), head);
  CHECK(frame.length < sizeof(frame.data));
  CHECK_EQUAL(fread(frame.data, 1, frame.length, file), frame.length);
  frame.data[frame.length] = 0;
  return &frame;
}

/* The next frame is of this kind. */
static const struct frame *expect(enum frame_kind kind) {
  const struct frame *frame = next();
  CHECK_EQUAL(frame->kind, kind);
  return frame;
}

static void expect_end(void) { CHECK_EQUAL(fgetc(file), EOF); }

/* ---- */

static void records_come_before_what_completes_them(void) {
  begin(-1);
  for (int i = 0; i < 3; i++)
    emit(0, KIND_SWITCH, getpid(), 0);
  emit(1, KIND_SWITCH, 0, getpid());
  uint64_t before = boot_ns(), horizon = scheduler_take(&scheduler);
  CHECK(horizon + HOLD_NS >= before && horizon + HOLD_NS <= boot_ns());
  emit(1, KIND_EXIT, getpid(), 0);
  uint64_t second = scheduler_take(&scheduler);
  CHECK(second > horizon);
  CHECK(strstr(expect(FRAME_TASKS)->data, "{\"since\":"));
  CHECK_EQUAL(next()->length, 3 * sizeof(struct record));
  const struct frame *frame = expect(FRAME_SCHEDULER);
  CHECK_EQUAL(frame->length, sizeof(struct record));
  CHECK_EQUAL(frame->ts, 0); /* nothing is complete yet */
  frame = expect(FRAME_SCHEDULER);
  CHECK_EQUAL(frame->length, 0);
  CHECK_EQUAL(frame->ts, horizon);
  frame = expect(FRAME_SCHEDULER);
  CHECK_EQUAL(frame->length, sizeof(struct record));
  CHECK_EQUAL(frame->ts, horizon);
  CHECK_EQUAL(expect(FRAME_SCHEDULER)->ts, second);
  expect_end();
  CHECK_EQUAL(scheduler_records(&scheduler), 5);
}

/* A process that nobody has told of: it is, before what it did is complete. */
static void strangers_are_told_in_time(void) {
  int gate[2];
  begin(-1);
  CHECK(!pipe(gate));
  pid_t child = fork();
  if (!child)
    _exit(close(gate[1]) + read(gate[0], gate, 1));
  emit(0, KIND_WAKING, getpid(), child);
  uint64_t horizon = scheduler_take(&scheduler);
  close(gate[1]);
  waitpid(child, 0, 0);
  expect(FRAME_TASKS);
  CHECK_EQUAL(expect(FRAME_SCHEDULER)->ts, 0);
  const struct frame *frame = expect(FRAME_TASKS);
  CHECK_EQUAL(frame->ts, horizon);
  char *row = text("{\"processes\":[[%d,%d,", child, getpid());
  CHECK(!strncmp(frame->data, row, strlen(row)));
  CHECK_EQUAL(expect(FRAME_SCHEDULER)->ts, horizon);
  expect_end();
}

static void what_did_not_fit_is_told(void) {
  begin(-1);
  lost[SCHEDULER_KINDS + KIND_WAKING - FIRST_SCHEDULER_KIND] = (struct loss){7, boot_ns()};
  scheduler_take(&scheduler);
  expect(FRAME_TASKS);
  const struct frame *frame = expect(FRAME_LOSS);
  struct loss_entry entry;
  CHECK_EQUAL(frame->length, sizeof(entry));
  memcpy(&entry, frame->data, sizeof(entry));
  CHECK_EQUAL(entry.cpu, 1);
  CHECK_EQUAL(entry.kind, KIND_WAKING);
  CHECK_EQUAL(entry.lost, 7);
  expect(FRAME_SCHEDULER);
  CHECK_EQUAL(scheduler_lost(&scheduler), 7);
}

/* ---- A program that stands at system calls, where it sends a signal that nobody minds, and at
 * signals: there the kernel does not run it within itself. */

static int load_signaller(void) {
  const struct bpf_insn code[] = {
      {.code = 0x85, .imm = BPF_FUNC_get_current_pid_tgid},
      {.code = 0xbc},                                            /* w0 = w0 */
      {.code = 0x56, .off = 2, .imm = (int)syscall(SYS_gettid)}, /* if w0 != it skip two */
      {.code = 0xb7, .dst_reg = 1, .imm = SIGURG},
      {.code = 0x85, .imm = BPF_FUNC_send_signal},
      {.code = 0xb7}, /* r0 = 0 */
      {.code = 0x95},
  };
  int program = bpf_prog_load(BPF_PROG_TYPE_RAW_TRACEPOINT, 0, "GPL", code, 7, 0);
  CHECK(program >= 0);
  return program;
}

#define CALLS 1000

static void what_the_kernel_skips_is_a_loss_of_its_kind(void) {
  int program = load_signaller();
  begin(program);
  scheduler_take(&scheduler);
  uint64_t since = boot_ns();
  int links[] = {bpf_raw_tracepoint_open("signal_generate", program),
                 bpf_raw_tracepoint_open("sys_enter", program)};
  CHECK(links[0] >= 0 && links[1] >= 0);
  for (int i = 0; i < CALLS; i++)
    syscall(SYS_getppid);
  close(links[1]);
  close(links[0]);
  scheduler_take(&scheduler);
  expect(FRAME_TASKS);
  expect(FRAME_SCHEDULER); /* nothing was lost until then */
  const struct frame *frame = expect(FRAME_LOSS);
  struct loss_entry entries[SCHEDULER_PROGRAMS];
  CHECK_EQUAL(frame->length, sizeof(entries));
  memcpy(entries, frame->data, sizeof(entries));
  for (int i = 0; i < SCHEDULER_PROGRAMS; i++) {
    CHECK_EQUAL(entries[i].cpu, 0xffffffff);
    CHECK_EQUAL(entries[i].kind, scheduler_events[i].kind);
    /* A call is one; to attach and to close took some more. */
    CHECK(entries[i].lost >= CALLS && entries[i].lost < CALLS + 20);
    CHECK(entries[i].first_ts <= since && entries[i].last_ts > since);
  }
  CHECK_EQUAL(scheduler_lost(&scheduler), SCHEDULER_PROGRAMS * entries[0].lost);
}

/* ---- */

static json_object *events(void) {
  json_object *list = json_object_new_array();
  scheduler_event_programs(&scheduler, list);
  return list;
}

static void programs_and_their_runs(void) {
  begin(load_signaller());
  emit(0, KIND_RENAME, 7, 0);
  lost[KIND_RENAME - FIRST_SCHEDULER_KIND] = (struct loss){2, boot_ns()};
  scheduler_take(&scheduler);
  const char *said = json_object_to_json_string_ext(events(), JSON_C_TO_STRING_PLAIN);
  CHECK(strstr(said, "{\"program\":\"on_rename\",\"event\":\"task_rename\",\"runs\":3,"
                     "\"timed_runs\":0,\"timed_ns\":0}"));
  CHECK(strstr(said, "\"event\":\"sched_blocked_reason\""));
  /* Where only a target is recorded, others' events make no record. */
  scheduler.is_all = false;
  CHECK(!json_object_object_get(json_object_array_get_idx(events(), 0), "runs"));
}

static void without_a_scheduler_there_is_nothing(void) {
  json_object *list = json_object_new_array();
  scheduler_event_programs(0, list);
  CHECK_EQUAL(json_object_array_length(list), 0);
  CHECK_EQUAL(scheduler_records(0), 0);
  CHECK_EQUAL(scheduler_lost(0), 0);
  CHECK(scheduler_fill(0) == 0);
}

int main(void) {
  CHECK_APART(RUN(records_come_before_what_completes_them));
  CHECK_APART(RUN(strangers_are_told_in_time));
  CHECK_APART(RUN(what_did_not_fit_is_told));
  CHECK_APART(RUN(what_the_kernel_skips_is_a_loss_of_its_kind));
  CHECK_APART(RUN(programs_and_their_runs));
  RUN(without_a_scheduler_there_is_nothing);
}
