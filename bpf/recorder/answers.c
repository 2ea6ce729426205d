/* SPDX-License-Identifier: Apache-2.0 */
#include "answers.h"
#include "counters.h"
#include "features.h"
#include "graph_look.h"
#include "handlers.h"
#include "hit_cost.h"
#include "message.h"
#include "ticks.h"
#include "tries.h"

#include <string.h>

json_object *answer(const char *verb) {
  json_object *message = json_object_new_object();
  message_set_text(message, "answer", verb);
  return message;
}

static void answer_means(int socket, json_object *request) {
  struct features features =
      features_find(message_text(request, "transport"), message_text(request, "attach"),
                    !strcmp(message_text(request, "loader"), "bcc"));
  json_object *said = answer("means");
  features_say(&features, said);
  message_send(socket, said);
}

static void answer_hit_costs(int socket, json_object *request) {
  json_object *said = hit_costs(!strcmp(message_text(request, "attach"), "uprobe_multi"),
                                message_list(request, "kinds"));
  message_set_text(said, "answer", "hit_costs");
  message_send(socket, said);
}

static void answer_counters(int socket, json_object *request) {
  json_object *notes = json_object_new_array(), *given = message_list(request, "notes");
  for (size_t i = 0; given && i < json_object_array_length(given); i++)
    json_object_array_add(notes, json_object_get(json_object_array_get_idx(given, i)));
  struct counters counters = counters_open(message_list(request, "events"), notes, handlers_cpus());
  json_object *said = answer("counters");
  json_object_object_add(said, "events", counters.events);
  json_object_object_add(said, "notes", notes);
  message_send(socket, said);
}

static void answer_scheduler(int socket, json_object *request) {
  json_object *said = answer("scheduler");
  try_scheduler(message_text(request, "transport"), said);
  message_send(socket, said);
}

static void answer_memory(int socket, json_object *request) {
  (void)request;
  json_object *said = answer("memory");
  try_memory(said);
  message_send(socket, said);
}

static void answer_graph_look(int socket, json_object *request) {
  struct work work;
  json_object *said = answer("graph_look");
  if (graph_look(request, &work))
    work_say(&work, said);
  message_send(socket, said);
}

static void answer_ticks(int socket, json_object *request) {
  (void)request;
  const char *why = ticks_problem();
  json_object *said = answer("ticks");
  message_set_text(said, "problem", why ? why : "");
  message_send(socket, said);
}

answer_fn *answers_find(const char *verb) {
  static const struct {
    const char *verb;
    answer_fn *work;
  } known[] = {{"means", answer_means},       {"hit_costs", answer_hit_costs},
               {"counters", answer_counters}, {"scheduler", answer_scheduler},
               {"memory", answer_memory},     {"graph_look", answer_graph_look},
               {"ticks", answer_ticks}};
  for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
    if (!strcmp(verb, known[i].verb))
      return known[i].work;
  return 0;
}
