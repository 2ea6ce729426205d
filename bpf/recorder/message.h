/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between profinfer and this program: a JSON object each, with descriptors riding along,
 * over a SOCK_SEQPACKET pair. profinfer/recording/recorder.py is the other end; what they say
 * stands in serve.h.
 */
#ifndef PROFINFER_MESSAGE_H
#define PROFINFER_MESSAGE_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

#define MESSAGE_FDS 250

/* Sends it, and lets go of it; whoever reads may be gone. */
void message_send(int socket, json_object *message);

/* The same of one that nobody misses: not sent to somebody who does not read what was sent before.
 */
void message_offer(int socket, json_object *message);

/* The next one, with its descriptors (room for MESSAGE_FDS; they close on exec) and their number;
 * 0 at the socket's end. What is no JSON object ends the process with EXIT_USAGE. */
json_object *message_receive(int socket, int *fds, size_t *count);

/* A message from its bytes; 0 when they are none. */
json_object *message_parse(const char *bytes, size_t length);

/* An object that says {"event": name}. */
json_object *message_event(const char *name);

/* Members: "" or 0 or false where it is missing or of another type. */
const char *message_text(json_object *message, const char *name);
double message_number(json_object *message, const char *name);
int64_t message_integer(json_object *message, const char *name, int64_t most); /* 0 to `most` */
bool message_flag(json_object *message, const char *name);
json_object *message_list(json_object *message, const char *name); /* 0: none */

/* Sets a member. */
void message_set_text(json_object *message, const char *name, const char *value);
void message_set_number(json_object *message, const char *name, uint64_t value);
void message_set_flag(json_object *message, const char *name, bool value);
void message_set_seconds(json_object *message, const char *name, double value);

#endif
