/* SPDX-License-Identifier: Apache-2.0 */
#include "calls.h"
#include "failure.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static void note(json_object *notes, const struct plan_call *call, uint64_t leads_to) {
  char *said = text("calls may have been missed: %s in %s: its procedure linkage table leads to "
                    "%#llx, not to the stub",
                    call->name, call->path, (unsigned long long)leads_to);
  json_object_array_add(notes, json_object_new_string(said));
  free(said);
}

void calls_check(const struct plan *plan, const struct target *target, json_object *notes) {
  int memory = openat(target->folder, "mem", O_RDONLY | O_CLOEXEC);
  for (size_t i = 0; memory >= 0 && i < plan->call_count; i++) {
    const struct plan_call *call = &plan->calls[i];
    uint64_t value;
    size_t at = 0;
    if (pread(memory, &value, sizeof(value), call->address) != sizeof(value))
      continue;
    while (at < call->value_count && call->values[at] != value)
      at++;
    if (at == call->value_count)
      note(notes, call, value);
  }
  if (memory >= 0)
    close(memory);
}
