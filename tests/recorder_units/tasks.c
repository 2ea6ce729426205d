/* SPDX-License-Identifier: Apache-2.0 */
#include "../../bpf/recorder/tasks.c"
#include "harness.h"

#include <json-c/json.h>
#include <sys/prctl.h>

static void of_a_worker_only_the_pool_is_a_name(void) {
  CHECK_EQUAL(task_name_length("kworker/0:1-events\n"), strlen("kworker/0:1"));
  CHECK_EQUAL(task_name_length("kworker/u8:12+flush-254:0\n"), strlen("kworker/u8:12"));
  CHECK_EQUAL(task_name_length("kworker/1:0H-kblockd"), strlen("kworker/1:0H"));
  CHECK_EQUAL(task_name_length("kworker/1:0I-x"), strlen("kworker/1:0I"));
}

static void every_other_name_is_whole(void) {
  CHECK_EQUAL(task_name_length("kworker/0:1\n"), strlen("kworker/0:1"));
  CHECK_EQUAL(task_name_length("kworker/R-rcu_gp\n"), strlen("kworker/R-rcu_gp"));
  CHECK_EQUAL(task_name_length("kworker/u:1-x"), strlen("kworker/u:1-x"));
  CHECK_EQUAL(task_name_length("kworker/0:-x"), strlen("kworker/0:-x"));
  CHECK_EQUAL(task_name_length("a-b\n"), 3);
  CHECK_EQUAL(task_name_length("a\nb\n"), 3);
  CHECK_EQUAL(task_name_length("\n"), 0);
  CHECK_EQUAL(task_name_length(""), 0);
}

static void check_string(const char *bytes, size_t most, const char *wanted) {
  char *made;
  size_t length;
  FILE *file = open_text(&made, &length);
  put_string(file, bytes, strlen(bytes), most);
  CHECK(!fclose(file));
  CHECK_TEXT(made, wanted);
  free(made);
}

static void strings_are_json(void) {
  check_string("llama-server", 99, "\"llama-server\"");
  check_string("a\"b\\c\td\x01", 99, "\"a\\\"b\\\\c\\u0009d\\u0001\"");
  check_string("\xff", 99, "\"\xef\xbf\xbd\"");
  check_string("\xc3\xa4\xc3\xb6\xc3\xbc", 2, "\"\xc3\xa4\xc3\xb6\"");
}

static unsigned found_threads;

static void find(void *context, uint32_t tid) {
  (void)context;
  found_threads += tid == (uint32_t)getpid();
}

/* Ours, named by the caller and with such a name that it must be escaped. */
static json_object *own_tasks(bool all, uint64_t since) {
  struct tasks tasks = tasks_begin();
  CHECK(!prctl(PR_SET_NAME, "one \"of\" us"));
  found_threads = 0;
  if (all)
    tasks_add_all(&tasks, find, 0);
  else
    for (int i = 0; i < 2; i++) /* it is there once */
      tasks_add(&tasks, getpid(), find, 0);
  CHECK_EQUAL(found_threads, 1);
  char *said = tasks_end(&tasks, since);
  json_object *read = json_tokener_parse(said);
  CHECK(read);
  free(said);
  return read;
}

static json_object *row(json_object *from, const char *list, size_t at) {
  return json_object_array_get_idx(json_object_object_get(from, list), at);
}

static int64_t number(json_object *row, size_t at) {
  return json_object_get_int64(json_object_array_get_idx(row, at));
}

static void one_process(void) {
  json_object *said = own_tasks(false, 0);
  json_object *process = row(said, "processes", 0), *thread = row(said, "threads", 0);
  CHECK_EQUAL(json_object_array_length(json_object_object_get(said, "processes")), 1);
  CHECK_EQUAL(number(process, 0), getpid());
  CHECK_EQUAL(number(process, 1), getppid());
  CHECK(strstr(json_object_get_string(json_object_array_get_idx(process, 2)), "tasks"));
  CHECK(!json_object_get_boolean(json_object_array_get_idx(process, 3)));
  CHECK_EQUAL(number(thread, 0), getpid());
  CHECK_EQUAL(number(thread, 1), getpid());
  CHECK_TEXT(json_object_get_string(json_object_array_get_idx(thread, 2)), "one \"of\" us");
  CHECK(!json_object_object_get(said, "since"));
}

static void all_processes(void) {
  json_object *said = own_tasks(true, 1234567890123);
  CHECK(json_object_array_length(json_object_object_get(said, "processes")) > 1);
  CHECK_EQUAL(json_object_get_int64(json_object_object_get(said, "since")), 1234567890123);
}

static void who_has_ended_is_left_out(void) {
  struct tasks tasks = tasks_begin();
  tasks_add(&tasks, 1 << 30, find, 0);
  CHECK_TEXT(tasks_end(&tasks, 0), "{\"processes\":[],\"threads\":[]}");
}

int main(void) {
  RUN(of_a_worker_only_the_pool_is_a_name);
  RUN(every_other_name_is_whole);
  RUN(strings_are_json);
  RUN(one_process);
  RUN(all_processes);
  RUN(who_has_ended_is_left_out);
}
