/* SPDX-License-Identifier: Apache-2.0 */
/* The plan parser: what `profinfer plan` has made, or somebody else. */
#include "fuzz.h"
#include "plan.h"

static void look_at_probes(const struct plan *plan) {
  for (size_t i = 0; i < plan->probe_count; i++) {
    fuzz_look_at_text(plan->probes[i].handler);
    fuzz_look_at_text(plan->probes[i].symbol);
    fuzz_look_at_text(plan->objects[plan->probes[i].object].name);
    fuzz_look_at_text(level_names[plan->probes[i].level]);
    fuzz_look(plan->probes[i].code, plan->probes[i].code_size);
  }
}

void fuzz_one(const uint8_t *data, size_t size) {
  struct plan plan = plan_read("the plan", fuzz_file(data, size));
  json_object *notes;
  fuzz_look_at_text(plan.machine);
  for (size_t i = 0; i < plan.object_count; i++) {
    fuzz_look_at_text(plan.objects[i].name);
    fuzz_look_at_text(plan.objects[i].build_id);
    fuzz_look_at_text(plan.objects[i].sha256);
    fuzz_look_at_text(plan.objects[i].backend);
    fuzz_look_at_text(plan.objects[i].device);
  }
  look_at_probes(&plan);
  for (size_t i = 0; i < plan.backend_count; i++)
    fuzz_look_at_text(plan.objects[plan.backends[i].object].name);
  for (size_t i = 0; i < plan.call_count; i++) {
    fuzz_look_at_text(plan.calls[i].name);
    fuzz_look_at_text(plan.calls[i].path);
    fuzz_look(plan.calls[i].values, plan.calls[i].value_count * sizeof(uint64_t));
  }
  json_object *counters = plan_counters(&plan, &notes);
  fuzz_look_at_text(json_object_to_json_string(counters));
  fuzz_look_at_text(json_object_to_json_string(notes));
  json_object_put(notes);
  plan_parameter(&plan, "T_SIZE");
}
