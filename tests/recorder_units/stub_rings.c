/* SPDX-License-Identifier: Apache-2.0 */
/* This process is the target, too: its page, its file, its threads; and it lies. */
#include "stub_rings.h"
#include "../../bpf/recorder/stub_rings.c"
#include "harness.h"

#include <fcntl.h>
#include <sys/mman.h>

#define CPUS 2
#define ROOM (page.mask + 1) /* of a ring */
#define SIZE (4u << 20)      /* of all */

static struct stub_page page;
static unsigned char *file;
static struct target target;
static struct plan plan = {.stub_count = 1, .stubs = {[33] = true}};
static struct stub_rings *rings;

static struct stub_ring *head(unsigned ring) {
  return (struct stub_ring *)(file + ring_offset(ring, page.mask));
}

static struct stub_record *slot(unsigned ring, uint64_t number) {
  return (struct stub_record *)((char *)head(ring) + RING_HEAD) + number % ROOM;
}

/* As the audit library leaves it. */
static void map(size_t size, int seals, int protection, int flags) {
  int fd = memfd_create("rings", MFD_ALLOW_SEALING);
  CHECK(fd >= 0 && !ftruncate(fd, size) && !fcntl(fd, F_ADD_SEALS, seals));
  file = mmap(0, size, protection, flags, fd, 0);
  CHECK(file != MAP_FAILED);
  close(fd);
  page = (struct stub_page){.file = (uint64_t)file, .state = PAGE_READY};
}

static uint64_t word(uint64_t number, uint32_t tid, unsigned kind, unsigned cpu) {
  return tid | kind << WORD_KIND | (uint64_t)cpu << WORD_CPU | (number + 1) << WORD_NUMBER;
}

static void put_as(unsigned ring, uint32_t tid, unsigned kind, unsigned cpu, uint64_t counter) {
  uint64_t number = head(ring)->next++;
  *slot(ring, number) = (struct stub_record){counter, number, 7, word(number, tid, kind, cpu)};
}

static void put(unsigned ring) { put_as(ring, getpid(), KIND_BARRIER, 1, ticks_look().ticks); }

/* ---- What comes out of it */

static uint64_t came, expected, began;

static void take_any(void *context, const struct record *records, size_t count) {
  (void)context;
  for (size_t i = 0; i < count; i++) {
    CHECK(records[i].ts >= began && records[i].ts <= boot_ns());
    CHECK(records[i].kind >= KIND_OPERATOR && records[i].kind <= KIND_BARRIER);
    CHECK(records[i].cpu < CPUS);
    CHECK(records[i].tid == (uint32_t)getpid() || kill(records[i].tid, 0));
  }
  came += count;
}

static void take_next(void *context, const struct record *records, size_t count) {
  take_any(context, records, count);
  for (size_t i = 0; i < count; i++)
    CHECK_EQUAL(records[i].a, expected++);
}

static struct look drained(struct stub_rings *from, uint64_t complete, records_fn *take) {
  stub_rings_look(from);
  return stub_rings_drain(from, complete, 0, UINT64_MAX, take, 0);
}

static enum seen drains(uint64_t wanted) {
  came = 0;
  enum seen seen = drained(rings, 0, take_next).seen;
  CHECK_EQUAL(came, wanted);
  return seen;
}

static void start(void) {
  if (file)
    munmap(file, FILE_SIZE);
  map(FILE_SIZE, F_SEAL_SHRINK, PROT_READ | PROT_WRITE, MAP_SHARED);
  plan.stub_page = (uint64_t)&page;
  rings = stub_rings_open(&plan, &target, CPUS, SIZE);
  stub_rings_switch(rings, &plan);
  head(0)->owner = getpid();
  expected = 0;
  began = rings->complete;
}

static void records_come_once_and_in_order(void) {
  start();
  CHECK_EQUAL(page.switches[33], rings->word);
  CHECK_EQUAL(page.switches[32], 0);
  CHECK_EQUAL(drains(0), SEEN_ALL);
  for (uint64_t i = 0; i < 3 * ROOM / 1000; i++) {
    for (int j = 0; j < 1000; j++)
      put(0);
    CHECK_EQUAL(drains(1000), SEEN_ALL);
    CHECK_EQUAL(head(0)->taken, head(0)->next);
    CHECK_EQUAL(head(0)->taken_again, head(0)->next);
  }
  CHECK(stub_rings_fill(rings) == 0);
  stub_rings_off(rings);
  CHECK_EQUAL(page.switches[33], 0);
}

static void times_are_those_of_the_clock(void) {
  start();
  uint64_t stamps[100];
  for (int i = 0; i < 100; i++) {
    usleep(100);
    struct tick_pair now = ticks_look();
    stamps[i] = now.boot;
    put_as(0, getpid(), KIND_FUSED, 0, now.ticks);
    if (i % 10 == 9)
      drains(10);
  }
  uint64_t boot;
  for (int i = 0; i < 100; i++) {
    CHECK(ticks_boot(&rings->ticks, slot(0, i)->counter, &boot));
    int64_t off = boot - stamps[i];
    /* The two looks of this test are as wrong as those of what it tests. */
    CHECK(off > -2 * rings->ticks.worst - 1000 && off < 2 * rings->ticks.worst + 1000);
  }
}

static void an_unfinished_one_stops_the_drain(void) {
  start();
  put(0);
  head(0)->next++;
  put(0);
  CHECK_EQUAL(drains(1), SEEN_UNTIL_NEW);
  CHECK_EQUAL(drains(0), SEEN_UNTIL_OLD);
  *slot(0, 1) = (struct stub_record){slot(0, 0)->counter, 1, 7, word(1, getpid(), 1, 1)};
  CHECK_EQUAL(drains(2), SEEN_ALL);
  head(0)->next++;
  put(0);
  CHECK_EQUAL(drains(0), SEEN_UNTIL_NEW);
  usleep(ABANDONED_NS / 1000 + 10000);
  expected = 4;
  CHECK_EQUAL(drains(1), SEEN_ALL);
  CHECK_EQUAL(rings->unfinished, 1);
}

static void what_was_there_before_is_not_taken(void) {
  start();
  for (int i = 0; i < 10; i++)
    put(0);
  stub_rings_off(rings);
  rings = stub_rings_open(&plan, &target, CPUS, SIZE);
  stub_rings_switch(rings, &plan);
  CHECK_EQUAL(drains(0), SEEN_ALL);
  expected = 10;
  put(0);
  CHECK_EQUAL(drains(1), SEEN_ALL);
}

static void what_was_not_to_be_recorded(void) {
  struct loss lost[KIND_COUNT];
  uint64_t stamps[6];
  start();
  for (int i = 0; i < 6; i++) {
    struct tick_pair now = ticks_look();
    stamps[i] = now.boot;
    put_as(0, getpid(), KIND_FUSED, 0, now.ticks);
    usleep(2000);
  }
  came = 0;
  expected = 2;
  stub_rings_look(rings);
  stub_rings_drain(rings, 0, stamps[2] - 1000000, stamps[4] - 1000000, take_next, 0);
  CHECK_EQUAL(came, 2);
  CHECK_EQUAL(stub_rings_records(rings, KIND_FUSED), 2);
  CHECK_EQUAL(rings->refused, 0);
  CHECK_EQUAL(head(0)->taken, 6);
  head(0)->lost[KIND_OPERATOR] = 3;
  stub_rings_losses(rings, lost, false);
  CHECK_EQUAL(lost[KIND_OPERATOR].lost, 0);
  head(0)->lost[KIND_OPERATOR] = 5;
  stub_rings_losses(rings, lost, true);
  CHECK_EQUAL(lost[KIND_OPERATOR].lost, 2);
}

static void as_large_as_is_asked_for(void) {
  static const struct {
    size_t asked, records;
  } sizes[] = {{4096, 16}, {64 << 10, 256}, {64 << 20, 1 << 18}, {1ul << 40, 1 << 18}};
  const char *why;
  struct stub_file found;
  for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
    map(FILE_SIZE, F_SEAL_SHRINK, PROT_READ | PROT_WRITE, MAP_SHARED);
    CHECK(stub_file_open(&found, &target, (uint64_t)&page, sizes[i].asked, &why));
    size_t records = sizes[i].records * 8 / found.rings;
    CHECK_EQUAL(page.mask + 1, records > 16 ? records : 16);
    CHECK(ring_offset(page.rings, page.mask) <= FILE_SIZE);
    munmap(file, FILE_SIZE);
  }
  file = 0;
}

static void losses(void) {
  struct loss lost[KIND_COUNT];
  start();
  CHECK_EQUAL(stub_rings_losses(rings, lost, true), UINT64_MAX);
  put(0);
  drains(1);
  uint64_t newest = rings->rings[0].newest, now = boot_ns();
  head(0)->lost[KIND_OPERATOR] = 3;
  CHECK_EQUAL(stub_rings_losses(rings, lost, true), newest);
  CHECK(newest >= began && newest <= now && lost[KIND_OPERATOR].last_ts >= now);
  head(1)->lost[KIND_OPERATOR] = 4;
  ((struct file_head *)file)->lost[KIND_BARRIER] = 5;
  page.switches[33] = 0; /* as the library has it when nobody comes */
  CHECK_EQUAL(stub_rings_losses(rings, lost, true), 0);
  CHECK_EQUAL(stub_rings_losses(rings, lost, true), UINT64_MAX);
  CHECK_EQUAL(lost[KIND_OPERATOR].lost, 7);
  CHECK_EQUAL(lost[KIND_BARRIER].lost, 5);
  CHECK_EQUAL(lost[KIND_FUSED].lost, 0);
  CHECK_EQUAL(page.switches[33], rings->word);
}

static void what_cannot_be_true(void) {
  start();
  uint64_t now = ticks_look().ticks;
  put_as(0, 1, KIND_OPERATOR, 0, now); /* another process's */
  put_as(0, 0, KIND_OPERATOR, 0, now);
  put_as(0, getpid(), 0, 0, now);
  put_as(0, getpid(), KIND_OPERATOR, CPUS, now);
  put_as(0, getpid(), KIND_OPERATOR, 0, rings->ticks.pairs[0].ticks - 1);
  put_as(0, getpid(), KIND_OPERATOR, 0, now + (1ull << 40));
  put_as(0, getpid(), KIND_OPERATOR, 0, 0);
  expected = 7;
  put(0);
  CHECK_EQUAL(drains(1), SEEN_ALL);
  CHECK_EQUAL(rings->refused, 7);
  head(0)->next += 2 * ROOM;
  CHECK_EQUAL(drains(0), SEEN_ALL);
  CHECK_EQUAL(rings->refused, 8);
  expected = head(0)->next;
  put(0);
  CHECK_EQUAL(drains(1), SEEN_ALL);
  json_object *notes = json_object_new_array();
  stub_rings_notes(rings, notes);
  CHECK(strstr(json_object_to_json_string(notes), "8 records in the process's own rings"));
}

static void files_that_are_refused(void) {
  const char *why;
  struct stub_file found;
  map(FILE_SIZE, 0, PROT_READ | PROT_WRITE, MAP_SHARED);
  CHECK(!stub_file_open(&found, &target, (uint64_t)&page, SIZE, &why));
  map(FILE_SIZE, F_SEAL_SHRINK, PROT_READ, MAP_SHARED);
  CHECK(!stub_file_open(&found, &target, (uint64_t)&page, SIZE, &why));
  map(FILE_SIZE, F_SEAL_SHRINK, PROT_READ | PROT_WRITE, MAP_PRIVATE);
  CHECK(!stub_file_open(&found, &target, (uint64_t)&page, SIZE, &why));
  map(FILE_SIZE - 1, F_SEAL_SHRINK, PROT_READ | PROT_WRITE, MAP_SHARED);
  CHECK(!stub_file_open(&found, &target, (uint64_t)&page, SIZE, &why));
  map(FILE_SIZE, F_SEAL_SHRINK, PROT_READ | PROT_WRITE, MAP_SHARED);
  CHECK(stub_file_open(&found, &target, (uint64_t)&page, SIZE, &why));
  CHECK(page.rings >= 8);
  CHECK_EQUAL(page.rings * ROOM * sizeof(struct stub_record), SIZE);
  CHECK(stub_file_open(&found, &target, (uint64_t)&page, 2 * SIZE, &why));
  CHECK_EQUAL(found.rings * (found.mask + 1) * sizeof(struct stub_record), SIZE);
  page.mask--;
  CHECK(!stub_file_open(&found, &target, (uint64_t)&page, SIZE, &why));
  page.mask = RECORDS_MAX / page.rings * 2 - 1;
  CHECK(!stub_file_open(&found, &target, (uint64_t)&page, SIZE, &why));
  page.mask = 0;
  page.rings = RINGS_MAX + 1;
  CHECK(!stub_file_open(&found, &target, (uint64_t)&page, SIZE, &why));
  page.state = PAGE_SECCOMP;
  CHECK(!stub_file_open(&found, &target, (uint64_t)&page, SIZE, &why));
  CHECK(!stub_file_open(&found, &target, 4096, SIZE, &why));
  file = 0;
}

/* ---- 10,000 lies */

static uint64_t state = 1;

static uint64_t any(uint64_t below) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (state >> 20) % below;
}

/* Mostly what is nearly right: what is all wrong is soon done with. */
static void lie(void) {
  struct stub_ring *ring = head(any(4));
  switch (any(8)) {
  case 0:
    ring->next = state;
    break;
  case 1:
    ring->next += any(2 * ROOM);
    break;
  case 2:
    ring->owner = any(2) ? state : (uint64_t)getpid();
    break;
  case 3:
    ring->lost[1 + any(HOT)] = state;
    break;
  case 4:
    memset(slot(any(4), any(ROOM)), (int)any(256), sizeof(struct stub_record));
    break;
  default:
    for (unsigned which = any(4), i = any(300); i; i--)
      put_as(which, any(4) ? (uint64_t)getpid() : any(THREAD_MAX + 1ull), any(4), any(4),
             any(3) ? rings->ticks.pairs[rings->ticks.count - 1].ticks + any(1 << 20) : state);
  }
}

static void ten_thousand_lies(void) {
  struct loss lost[KIND_COUNT];
  start();
  uint64_t all = 0;
  for (int i = 0; i < 10000; i++) {
    lie();
    if (any(4))
      continue;
    came = 0;
    struct look look = drained(rings, began, take_any);
    CHECK(look.seen <= SEEN_UNTIL_OLD && came <= RECORDS_MAX);
    CHECK(stub_rings_fill(rings) <= 1);
    stub_rings_losses(rings, lost, true);
    CHECK(lost[0].lost == 0 && lost[KIND_GRAPH_BEGIN].lost == 0);
    all += came;
  }
  CHECK(all > 1000 && rings->refused > 1000);
}

int main(void) {
  target = target_open(getpid());
  RUN(records_come_once_and_in_order);
  RUN(times_are_those_of_the_clock);
  RUN(an_unfinished_one_stops_the_drain);
  RUN(what_was_there_before_is_not_taken);
  RUN(what_was_not_to_be_recorded);
  RUN(as_large_as_is_asked_for);
  RUN(losses);
  RUN(what_cannot_be_true);
  RUN(files_that_are_refused);
  RUN(ten_thousand_lies);
}
