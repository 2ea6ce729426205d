/* SPDX-License-Identifier: Apache-2.0 */
/* What profinfer asks, as far as it is read: nothing is started, launched or recorded. */
#include "fuzz.h"
#include "serve.h"

#include <unistd.h>

/* The server has children everywhere, and nobody is one. */
static pid_t no_child(void) { return 1 << 22; }
#define fork no_child
#include "../../bpf/recorder/serve.c"

static struct launch_request asked;

void launch_open(void) {}
struct source launch_source(bool looks_at_files) {
  (void)looks_at_files;
  return (struct source){0};
}
int launch_fd(void) { return -1; }
size_t launch_take(pid_t *pids, size_t room) { return pids && room ? 0 : 0; }
void launch_go(pid_t pid) { (void)pid; }
unsigned launch_why(pid_t pid) { return pid < 0; }
bool launch_work(pid_t pid, struct work *work) {
  *work = (struct work){0};
  return pid < 0;
}
void launch_settle(pid_t pid) { (void)pid; }
void launch_follow(pid_t pid) { (void)pid; }
bool launch_sees_forks(void) { return true; }
void launch_watch_work(pid_t pid, bool everywhere, int file, const uint64_t *offsets,
                       size_t count) {
  (void)pid, (void)everywhere, (void)file;
  fuzz_look(offsets, count * sizeof(*offsets));
}
void launch_close(void) {}
void launch_leave(void) {}

pid_t launch_start(const struct launch_request *request) {
  asked = *request;
  for (char **word = asked.argv; *word; word++)
    fuzz_look_at_text(*word);
  fuzz_look_at_text(asked.audit);
  fuzz_look(asked.groups, asked.group_count * sizeof(*asked.groups));
  return 0; /* none that could be asked to end */
}

void fuzz_one(const uint8_t *data, size_t size) {
  int none[MESSAGE_FDS] = {-1, -1, -1};
  profinfer = -1;
  json_object *request = message_parse((const char *)data, size);
  if (!request)
    return;
  obey(request, none, size % 5);
  struct options options = options_of(request);
  fuzz_look_at_text(options.transport);
  fuzz_look_at_text(options.attach);
  fuzz_look_at_text(options.scheduler);
  if (options.level)
    fuzz_look_at_text(options.level);
  size_t sizes[] = {options.ring_size, options.scheduler_ring_size, options.structure_ring_size};
  for (int i = 0; i < 3; i++)
    if (sizes[i] < 4096 || sizes[i] > 1 << 30 || sizes[i] & (sizes[i] - 1))
      abort();
  json_object_put(request);
}
