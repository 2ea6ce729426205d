/* SPDX-License-Identifier: Apache-2.0 */
/* Who has asked for a recording and listens to what comes of it: profinfer over a socket, or
 * nobody. serve.h says what goes over it. */
#ifndef PROFINFER_LISTENER_H
#define PROFINFER_LISTENER_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct listener {
  int socket;         /* -1: nobody */
  bool is_shown;      /* tell of progress */
  const char *reason; /* why recording is to end, once it is */
  bool is_left;       /* the target is another program now */
  bool wants_more;    /* probes in files that were loaded later */
  int plan_fd;        /* of these, -1: the plan that there is names them */
  double next_shown;
};

/* Waits so long, or less when the target ends (`target`: its pidfd, or -1), a signal comes or
 * somebody asks for something. */
void listener_wait(struct listener *listener, int target, double seconds);

/* The descriptor of the plan that came with the wish for more. */
int listener_take_plan(struct listener *listener);

/* All probes are in place, so many. */
void listener_attached(struct listener *listener, size_t probes);

/* How far it is, if that is shown and time for it. */
bool listener_is_due(const struct listener *listener, double seconds);
void listener_progress(struct listener *listener, double seconds, uint64_t records, uint64_t lost,
                       uint64_t tokens, uint64_t bytes);

/* Something that whoever records should know now. */
void listener_note(struct listener *listener, const char *note);

/* Functions that are not called, though others of the engine are: something else may be probed. */
void listener_silent(struct listener *listener, json_object *symbols);

/* Stubs cannot record any longer: probes are to take their place. */
void listener_probe_instead(struct listener *listener, const char *why);

/* Recording is over and the probes are gone; what is said last (serve.h: finish), 0: nothing. */
json_object *listener_over(struct listener *listener, const char *reason);

/* The capture is whole. */
void listener_ended(struct listener *listener, const char *reason, double seconds, uint64_t records,
                    uint64_t lost, json_object *notes, double cpu_seconds);

#endif
