/* SPDX-License-Identifier: Apache-2.0 */
#include "recording.h"
#include "calls.h"
#include "capture.h"
#include "checks.h"
#include "clocks.h"
#include "evict.h"
#include "failure.h"
#include "handlers.h"
#include "listener.h"
#include "memory.h"
#include "message.h"
#include "metadata.h"
#include "pace.h"
#include "pid_namespace.h"
#include "priority.h"
#include "run_stats.h"
#include "scheduler.h"
#include "silence.h"
#include "turns.h"
#include "uprobes.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t received; /* the signal that ends the recording */

static void on_signal(int number) { received = number; }

void recording_catch_signals(void) {
  static const int ending[] = {SIGINT, SIGTERM, SIGHUP};
  struct sigaction action = {.sa_handler = on_signal};
  for (size_t i = 0; i < sizeof(ending) / sizeof(*ending); i++)
    sigaction(ending[i], &action, 0);
  /* A file that may not grow is an error of write(), and nobody has to read what we say. */
  action.sa_handler = SIG_IGN;
  sigaction(SIGXFSZ, &action, 0);
  sigaction(SIGPIPE, &action, 0);
}

/* What was found and loaded, and is being recorded. */
struct recording {
  const struct options *options;
  struct plan plan;
  enum level level;
  struct target target;
  struct objects objects;
  struct handlers handlers;
  struct counters counters;
  struct memory *memory;
  struct scheduler *scheduler; /* 0: not recorded */
  struct uprobes uprobes;
  struct drain drain;
  struct listener listener;
  struct silence silence;
  struct turns turns;
  json_object *notes;
  bool is_off;       /* nothing is probed any more */
  double began, cpu; /* seconds */
};

static uint64_t all_records(const struct recording *recording) {
  return recording->drain.records + scheduler_records(recording->scheduler);
}

static uint64_t all_lost(const struct recording *recording) {
  return drain_lost(&recording->drain) + scheduler_lost(recording->scheduler);
}

static double fill(const struct recording *recording) {
  double engine = drain_fill(&recording->drain);
  double scheduler = scheduler_fill(recording->scheduler);
  return engine > scheduler ? engine : scheduler;
}

/* Writes everything that has been sent into the capture. */
static void take(struct recording *recording) {
  memory_look(recording->memory);
  /* The scheduler's first: a thread's beginning must be known before what it does. */
  uint64_t horizon = recording->scheduler ? scheduler_take(recording->scheduler) : UINT64_MAX;
  drain_take(&recording->drain, horizon);
}

static void load(struct recording *recording) {
  const struct options *options = recording->options;
  json_object *wanted, *notes;
  recording->plan = plan_read(options->plan, options->plan_fd);
  recording->level = check_level(options, &recording->plan);
  check_machine(&recording->plan);
  check_privileges();
  pids_check();
  recording->target = target_open(options->pid);
  recording->objects = objects_find(&recording->plan, &recording->target, recording->level);
  capture_open(options->output, options->capture_fd, options->force);
  struct features features =
      options->means ? features_said(options->means)
                     : features_find(options->transport, options->attach, options->by_bcc);
  wanted = plan_counters(&recording->plan, &notes);
  if (recording->level >= LEVEL_OPERATOR) {
    recording->counters = counters_open(wanted, notes, handlers_cpus());
    counters_check(&recording->counters, wanted);
    for (size_t i = 0; notes && i < json_object_array_length(notes); i++)
      json_object_array_add(recording->notes, json_object_get(json_object_array_get_idx(notes, i)));
  }
  recording->memory = memory_open(&recording->target, options->faults, options->block_io);
  memory_notes(recording->memory, recording->notes);
  recording->handlers = handlers_load(options, recording->level, &features, &recording->plan,
                                      &recording->counters, recording->memory);
  recording->scheduler = scheduler_load(options->scheduler, &features, options->scheduler_ring_size,
                                        options->pid, recording->notes);
}

/* Those of the plan that record, once it has any. Whoever has none yet may get some with what is
 * loaded later. */
static void switch_stubs(struct recording *recording) {
  const struct options *options = recording->options;
  const struct plan *plan = &recording->plan;
  struct drain *drain = &recording->drain;
  const int32_t ops[2] = {plan_parameter(plan, "E_MUL_MAT_ID"),
                          options->expert_weights ? plan_parameter(plan, "E_MUL") : -1};
  if (!drain->stubs)
    drain->stubs = stub_rings_open(plan, &recording->target, handlers_cpus(), options->ring_size);
  if (!drain->stubs)
    return;
  stub_rings_leave(drain->stubs, options->experts ? plan_parameter(plan, "T_OP") : 0, ops);
  stub_rings_switch(drain->stubs, plan);
}

static void attach(struct recording *recording) {
  if (!uprobes_attach(&recording->uprobes, &recording->objects, recording->level))
    fail(EXIT_TARGET, "", "process %d ended while probes were being attached",
         recording->target.pid);
}

static void begin(struct recording *recording) {
  const struct options *options = recording->options;
  json_object *evicted = options->evict ? evict(&recording->target, recording->notes) : 0;
  metadata_start(options, &recording->plan, &recording->objects, recording->level,
                 &recording->handlers, &recording->counters, recording->scheduler, evicted);
  capture_clocks();
  recording->drain = drain_begin(&recording->handlers, &recording->objects,
                                 handlers_rings(&recording->handlers, options));
  counters_start(&recording->counters, recording->handlers.programs);
  handlers_tell_steps(&recording->handlers, &recording->plan);
  handlers_activate(&recording->handlers, options);
  run_stats_set(true);
  recording->uprobes = uprobes_begin(&recording->handlers, options->pid, options->empty_handlers);
  attach(recording);
  switch_stubs(recording);
  if (recording->scheduler)
    scheduler_attach(recording->scheduler);
  memory_begin(recording->memory, recording->handlers.programs);
  malloc_trim(0); /* loading took some memory that recording does not */
}

/* The probes go. What has a PID is not to see another process that gets it. */
static void switch_off(struct recording *recording) {
  if (recording->is_off)
    return;
  recording->is_off = true;
  handlers_deactivate(&recording->handlers);
  if (recording->drain.stubs)
    stub_rings_off(recording->drain.stubs);
  memory_end(recording->memory);
  uprobes_detach(&recording->uprobes);
  counters_end(&recording->counters);
}

static bool has_text(json_object *list, const char *wanted) {
  for (size_t i = 0; i < json_object_array_length(list); i++)
    if (!strcmp(json_object_get_string(json_object_array_get_idx(list, i)), wanted))
      return true;
  return false;
}

/* Notes what is probed in the place of something else; whether anything is that was not. */
static bool note_replaced(struct recording *recording) {
  json_object *notes = recording->plan.notes;
  bool is_new = false;
  for (size_t i = 0; notes && i < json_object_array_length(notes); i++) {
    json_object *note = json_object_array_get_idx(notes, i);
    if (has_text(recording->notes, json_object_get_string(note)))
      continue;
    json_object_array_add(recording->notes, json_object_get(note));
    is_new = true;
  }
  return is_new;
}

/* More of the plan's files may have been mapped, or a new plan may name more. Of a process that
 * ends just now nothing is mapped any more: then nothing changes, and its end is noticed soon. */
static void attach_more(struct recording *recording, int plan_fd) {
  struct plan plan = plan_fd < 0 ? recording->plan : plan_read("the new plan", plan_fd);
  struct objects objects;
  if (objects_try(&plan, &recording->target, recording->level, &objects)) {
    objects_check(&objects, recording->level);
    if (plan_fd >= 0)
      plan_close(&recording->plan);
    objects_close(&recording->objects);
    /* Others look at both where they are. */
    recording->plan = plan;
    recording->objects = objects;
    recording->objects.plan = &recording->plan;
    handlers_tell_steps(&recording->handlers, &recording->plan);
    if (note_replaced(recording)) {
      uprobes_drop(&recording->uprobes, &recording->objects);
      recording->silence =
          silence_begin(recording->options, &recording->plan, &recording->target, recording->level);
    }
    uprobes_attach(&recording->uprobes, &recording->objects, recording->level);
    switch_stubs(recording);
  } else if (plan_fd >= 0) {
    plan_close(&plan);
  }
  listener_attached(&recording->listener, recording->uprobes.count);
}

/* Everything that is done to the target, undone or done once more. What was recorded is taken
 * before: that is part of what recording costs. */
static void turn(struct recording *recording) {
  if (!recording->turns.is_off)
    take(recording);
  uint64_t until = boot_ns();
  if (recording->turns.is_off) {
    handlers_activate(&recording->handlers, recording->options);
    /* A target that has ended is noticed soon. */
    uprobes_attach(&recording->uprobes, &recording->objects, recording->level);
    if (recording->drain.stubs)
      stub_rings_switch(recording->drain.stubs, &recording->plan);
    if (recording->scheduler)
      scheduler_resume(recording->scheduler);
  } else {
    handlers_deactivate(&recording->handlers);
    if (recording->drain.stubs)
      stub_rings_off(recording->drain.stubs);
    uprobes_detach(&recording->uprobes);
    if (recording->scheduler)
      scheduler_detach(recording->scheduler);
  }
  turns_took(&recording->turns, until, boot_ns(), clock_s(CLOCK_MONOTONIC));
}

static const char *why_over(struct recording *recording, double seconds) {
  const struct options *options = recording->options;
  bool is_left = recording->listener.is_left;
  if (!recording->is_off && (is_left || target_has_ended(&recording->target))) {
    if (!options->stays)
      return is_left ? "the target is another program now" : "the target ended";
    switch_off(recording);
  }
  if (recording->listener.reason)
    return recording->listener.reason;
  if (received)
    return text("SIG%s received", sigabbrev_np(received));
  if (options->duration && seconds >= options->duration)
    return "the duration is over";
  if (options->last_ubatch && handlers_control(&recording->handlers).finished)
    return "the iterations are complete";
  return 0;
}

/* Right after a drain: between two of them nothing would seem to happen. */
static void show(struct recording *recording, double seconds) {
  if (listener_is_due(&recording->listener, seconds))
    listener_progress(&recording->listener, seconds, all_records(recording), all_lost(recording),
                      handlers_control(&recording->handlers).tokens, capture_size());
}

static void warn_listener(struct recording *recording, const char *said) {
  if (recording->listener.socket >= 0)
    listener_note(&recording->listener, said);
  else
    warn("%s", said);
}

/* What nothing comes from is said once, as soon as that can be told. */
static void warn_of_silence(struct recording *recording) {
  const char *said = silence_look(&recording->silence, &recording->drain);
  if (!said)
    return;
  warn_listener(recording, said);
  json_object *symbols = recording->listener.socket >= 0 ? silence_symbols(&recording->silence) : 0;
  if (symbols)
    listener_silent(&recording->listener, symbols);
}

/* What stubs have recorded so far stays; until probes are in their place nothing is seen. */
static void check_stubs(struct recording *recording) {
  const char *why = stub_rings_problem(recording->drain.stubs);
  if (!why)
    return;
  const char *note = text("process %d: its stubs cannot record any longer, probes take their place:"
                          " %s",
                          recording->target.pid, why);
  json_object_array_add(recording->notes, json_object_new_string(note));
  warn_listener(recording, note);
  if (recording->listener.socket >= 0)
    listener_probe_instead(&recording->listener, why);
}

/* Drains until something ends the recording; what that was. */
static const char *record(struct recording *recording) {
  struct pace pace = pace_begin(recording->options->poll, recording->began, boot_ns());
  bool has_checked_calls = false;
  for (;;) {
    int target = recording->is_off ? -1 : recording->target.pidfd;
    double usual = pace_nap(&pace, recording->drain.stubs), nap = usual;
    /* A model may be mapped for a moment; once tokens come, it is there. */
    if (!recording->is_off && !handlers_control(&recording->handlers).tokens)
      nap = memory_nap(recording->memory, usual);
    bool is_loading = nap < usual; /* nobody's token waits for us yet */
    priority_give_way(pace.is_hurried || is_loading);
    listener_wait(&recording->listener, target,
                  turns_nap(&recording->turns, clock_s(CLOCK_MONOTONIC), nap));
    memory_glance(recording->memory); /* of a target that ends soon nothing is left */
    if (recording->listener.wants_more)
      attach_more(recording, listener_take_plan(&recording->listener));
    double now = clock_s(CLOCK_MONOTONIC);
    const char *over = why_over(recording, now - recording->began);
    if (!over && turns_is_due(&recording->turns, now))
      turn(recording);
    if (!pace_is_due(&pace, now, fill(recording), over))
      continue;
    priority_give_way(pace.is_hurried || is_loading);
    take(recording);
    show(recording, now - recording->began);
    if (!over && !recording->is_off) {
      check_stubs(recording);
      warn_of_silence(recording);
    }
    const char *outgrown = capture_outgrown();
    if (outgrown)
      warn_listener(recording, outgrown);
    run_stats_set(pace_counts_runs(&pace, recording->drain.records));
    if (!over && !recording->is_off && !has_checked_calls &&
        recording->drain.drained[KIND_OPERATOR]) {
      has_checked_calls = true;
      calls_check(&recording->plan, &recording->target, recording->notes);
    }
    if (pace_is_clock_due(&pace, boot_ns()))
      capture_clocks();
    if (over)
      return over;
  }
}

/* What the kernel has dropped the programs have counted, or our sums are wrong. */
static void note_dropped(struct recording *recording) {
  const struct scheduler *scheduler = recording->scheduler;
  uint64_t dropped = rings_dropped(&recording->drain.rings);
  dropped += scheduler ? rings_dropped(&scheduler->rings) : 0;
  if (dropped > all_lost(recording))
    json_object_array_add(
        recording->notes,
        json_object_new_string(text("the kernel dropped %llu records, %llu were counted",
                                    (unsigned long long)dropped,
                                    (unsigned long long)all_lost(recording))));
}

static void note_unseen(struct recording *recording) {
  bool is_whole =
      !recording->options->last_ubatch && !drain_lost_of(&recording->drain, KIND_FILE_READ);
  char *note = is_whole ? memory_unseen(recording->memory, recording->drain.pages_read) : 0;
  if (note)
    json_object_array_add(recording->notes, json_object_new_string(note));
  free(note);
}

/* Whatever comes: the probes go first. */
static void end(struct recording *recording) {
  priority_give_way(true);
  switch_off(recording);
  if (recording->scheduler)
    scheduler_detach(recording->scheduler);
  usleep(5000); /* a handler that had begun ends meanwhile */
  take(recording);
  note_dropped(recording);
  note_unseen(recording);
  stub_rings_notes(recording->drain.stubs, recording->notes);
  run_stats_set(false);
  memory_models(recording->memory);
  capture_clocks();
}

static void report(const struct recording *recording, const char *reason, double seconds) {
  uint64_t records = all_records(recording), lost = all_lost(recording);
  tell("%s: %.1f MB, %llu records in %.1f s, %llu lost (%s)", recording->options->output,
       capture_size() / 1e6, (unsigned long long)records, seconds, (unsigned long long)lost,
       reason);
  for (size_t i = 0; i < json_object_array_length(recording->notes); i++)
    warn("%s", json_object_get_string(json_object_array_get_idx(recording->notes, i)));
  if (lost) {
    warn("records were lost: the rings were full");
    fputs("hint: a larger --ring-size, a shorter --poll, or a lower --level loses fewer\n", stderr);
  }
}

void recording_run(const struct options *options) {
  struct recording recording = {
      .options = options,
      .notes = json_object_new_array(),
      .listener = {.socket = options->socket, .is_shown = options->shows_progress},
  };
  programs_use(options->by_bcc ? options->socket : -1);
  programs_use_object(options->object);
  load(&recording);
  begin(&recording);
  recording.began = clock_s(CLOCK_MONOTONIC);
  recording.cpu = clock_s(CLOCK_PROCESS_CPUTIME_ID);
  recording.turns = turns_begin(options->alternate, recording.began);
  if (options->socket < 0 || options->is_alone)
    tell("recording %s (%d), %zu probes, level %s: Ctrl-C ends it", recording.drain.target_name,
         recording.target.pid, recording.uprobes.count, level_names[recording.level]);
  listener_attached(&recording.listener, recording.uprobes.count);
  recording.silence = silence_begin(options, &recording.plan, &recording.target, recording.level);
  const char *reason = record(&recording);
  end(&recording);
  const char *silent = silence_end(&recording.silence, &recording.drain);
  if (silent)
    json_object_array_add(recording.notes, json_object_new_string(silent));
  double seconds = clock_s(CLOCK_MONOTONIC) - recording.began;
  json_object *last = listener_over(&recording.listener, reason), *status = 0, *cost = 0;
  if (last) {
    json_object *notes = message_list(last, "notes");
    for (size_t i = 0; notes && i < json_object_array_length(notes); i++)
      json_object_array_add(recording.notes, json_object_get(json_object_array_get_idx(notes, i)));
    json_object_object_get_ex(last, "command_status", &status);
    json_object_object_get_ex(last, "hit_cost", &cost);
  }
  metadata_end(&(struct metadata_totals){
      .drain = &recording.drain,
      .uprobes = &recording.uprobes,
      .memory = options->last_ubatch ? 0 : recording.memory,
      .programs_of_memory = recording.memory,
      .scheduler = recording.scheduler,
      .notes = recording.notes,
      .silent = silent,
      .turns = recording.turns.times,
      .reason = reason,
      .seconds = seconds,
      .cpu_seconds = clock_s(CLOCK_PROCESS_CPUTIME_ID) - recording.cpu,
      .command_status = status,
      .hit_cost = cost,
  });
  capture_close();
  if (options->socket < 0 || options->is_alone)
    report(&recording, reason, seconds);
  listener_ended(&recording.listener, reason, seconds, all_records(&recording),
                 all_lost(&recording), recording.notes,
                 clock_s(CLOCK_PROCESS_CPUTIME_ID) - recording.cpu);
}
