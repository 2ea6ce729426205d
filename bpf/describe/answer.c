/* SPDX-License-Identifier: Apache-2.0 */
#include "answer.h"
#include "description.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int channel;
static char line[1 << 19];
static size_t length;

void answer_begin(int descriptor) { channel = descriptor; }

__attribute__((format(printf, 1, 2))) static void put(const char *format, ...) {
  va_list values;
  va_start(values, format);
  int added = vsnprintf(line + length, sizeof(line) - length, format, values);
  va_end(values);
  /* More than any description takes. */
  if (added < 0 || (size_t)added >= sizeof(line) - length)
    _exit(3);
  length += added;
}

static void put_text(const char *text) {
  put("\"");
  for (; *text; text++) {
    if (*text == '"' || *text == '\\')
      put("\\%c", *text);
    else
      put("%c", *text >= ' ' && *text <= '~' ? *text : '?');
  }
  put("\"");
}

static void put_member(const char *name, const char *separator) {
  put("%s\"%s\": ", separator, name);
}

static void put_number(long number) {
  if (number == ABSENT)
    put("null");
  else
    put("%ld", number);
}

static void put_notes(void) {
  put_member("notes", "");
  for (size_t i = 0; i < found->note_count; i++) {
    put(i ? ", " : "[");
    put_text(found->notes[i]);
  }
  put(found->note_count ? "]" : "[]");
}

static void put_enumeration(const char *name, const struct enumeration *enumeration) {
  put_member(name, ", ");
  put("[");
  for (size_t i = 0; i < enumeration->count; i++) {
    put("%s", i ? ", " : "");
    put_text(enumeration->names[i]);
  }
  put("]");
}

static void put_types(void) {
  put_member("types", ", ");
  put("[");
  for (size_t i = 0; i < found->type_count; i++) {
    const struct type *type = &found->types[i];
    put("%s", i ? ", " : "");
    if (!*type->name) {
      put("null");
      continue;
    }
    put("{");
    put_member("name", "");
    put_text(type->name);
    put_member("type_size", ", ");
    put_number(type->size);
    put_member("block_size", ", ");
    put_number(type->block);
    put("}");
  }
  put("]");
}

static void put_fields(const char *name, const struct fields *fields) {
  put_member(name, ", ");
  put("{");
  for (size_t i = 0; i < fields->count; i++) {
    put_member(fields->list[i].name, i ? ", " : "");
    put_number(fields->list[i].value);
  }
}

static void put_backend(void) {
  if (!found->has_backend) {
    put_member("backend", ", ");
    put("null");
    return;
  }
  put_fields("backend", &found->backend);
  put_member("cpu_guid", ", ");
  put("\"");
  for (int i = 0; i < GUID_SIZE; i++)
    put("%02x", found->guid[i]);
  put("\"}");
}

static void send_line(void) {
  put("}\n");
  for (size_t done = 0; done < length;) {
    ssize_t written = write(channel, line + done, length - done);
    if (written <= 0)
      _exit(3);
    done += written;
  }
}

static void begin_line(void) {
  length = 0;
  put("{");
}

void answer_found(void) {
  begin_line();
  put_notes();
  put_enumeration("ops", &found->operators);
  put_enumeration("unary_ops", &found->unary);
  put_enumeration("glu_ops", &found->glu);
  put_types();
  put_member("version", ", ");
  if (*found->version)
    put_text(found->version);
  else
    put("null");
  put_fields("tensor", &found->tensor);
  put("}");
  put_fields("cgraph", &found->cgraph);
  put("}");
  if (found->is_backend_tried)
    put_backend();
  if (found->is_ubatch_tried && found->has_ubatch) {
    put_fields("ubatch", &found->ubatch);
    put("}");
  } else if (found->is_ubatch_tried) {
    put_member("ubatch", ", ");
    put("null");
  }
  send_line();
}

void answer_error(const char *reason) {
  begin_line();
  put_member("error", "");
  put_text(reason);
  put(", ");
  put_notes();
  send_line();
}
