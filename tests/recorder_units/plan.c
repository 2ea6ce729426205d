/* SPDX-License-Identifier: Apache-2.0 */
#include "plan.h"
#include "harness.h"

#define OBJECT "{'name':'libggml.so','build_id':'0a1b','size':4096,'backend':'CPU'}"
#define PROBE                                                                                      \
  "{'handler':'graph_begin','symbol':'ggml_graph_compute','offset':64,'object':0,"                 \
  "'level':'graph','code':'f30f1efa'}"
#define BACKEND "{'object':0,'vaddr':4660,'name':'CPU'}"
#define START "{'layout':{}}"

static struct plan read_text(const char *text) {
  write_file("plan.json", text, strlen(text));
  return plan_read("plan.json", -1);
}

/* Single quotes are double ones, so that they can be read here. */
static char *made(const char *objects, const char *probes, const char *backends, const char *rest) {
  char *all = text("{'format':1,'machine':'x86_64','level':'operator','parameters':{'T_SIZE':368,"
                   "'T_NAME':-7,'T_FAR':4294967296},'start':" START
                   ",'objects':[%s],'probes':[%s],'backends':[%s]%s}",
                   objects, probes, backends, rest);
  for (char *c = all; *c; c++)
    *c = *c == '\'' ? '"' : *c;
  return all;
}

static void everything_that_a_plan_says(void) {
  struct plan plan = read_text(made(OBJECT, PROBE, BACKEND, ""));
  CHECK_TEXT(plan.machine, "x86_64");
  CHECK_EQUAL(plan.level, LEVEL_OPERATOR);
  CHECK_EQUAL(plan.object_count, 1);
  CHECK_TEXT(plan.objects[0].name, "libggml.so");
  CHECK_TEXT(plan.objects[0].build_id, "0a1b");
  CHECK_TEXT(plan.objects[0].sha256, "");
  CHECK_TEXT(plan.objects[0].backend, "CPU");
  CHECK_EQUAL(plan.objects[0].size, 4096);
  CHECK_EQUAL(plan.probe_count, 1);
  CHECK_TEXT(plan.probes[0].handler, "graph_begin");
  CHECK_TEXT(plan.probes[0].symbol, "ggml_graph_compute");
  CHECK_EQUAL(plan.probes[0].offset, 64);
  CHECK_EQUAL(plan.probes[0].level, LEVEL_GRAPH);
  CHECK(!plan.probes[0].at_return);
  CHECK(plan.probes[0].required);
  CHECK_EQUAL(plan.probes[0].code_size, 4);
  CHECK(!memcmp(plan.probes[0].code, "\xf3\x0f\x1e\xfa", 4));
  CHECK_EQUAL(plan.backend_count, 1);
  CHECK_EQUAL(plan.backends[0].vaddr, 4660);
  CHECK_EQUAL(plan_parameter(&plan, "T_SIZE"), 368);
  CHECK_EQUAL(plan_parameter(&plan, "T_NAME"), -7);
  CHECK_FAILS(EXIT_PLAN, "plan.json: parameters.T_FAR is out of range",
              plan_parameter(&plan, "T_FAR"));
  CHECK_FAILS(EXIT_PLAN, "plan.json: parameters.T_NONE is missing or no int",
              plan_parameter(&plan, "T_NONE"));
}

static void levels_have_names(void) {
  CHECK_EQUAL(level_named("token"), LEVEL_TOKEN);
  CHECK_EQUAL(level_named("barrier"), LEVEL_BARRIER);
  CHECK_EQUAL(level_named("barriers"), LEVEL_COUNT);
  CHECK_EQUAL(level_named(""), LEVEL_COUNT);
}

static void files_that_are_no_plans(void) {
  CHECK_FAILS(EXIT_PLAN, "cannot read the plan none.json: No such file",
              plan_read("none.json", -1));
  CHECK_FAILS(EXIT_PLAN, "cannot read the plan .: Is a directory", plan_read(".", -1));
  CHECK_FAILS(EXIT_PLAN, "/dev/zero is too large to be a plan", plan_read("/dev/zero", -1));
  CHECK_FAILS(EXIT_PLAN, "plan.json is not a plan", read_text(""));
  CHECK_FAILS(EXIT_PLAN, "plan.json is not a plan: no JSON object", read_text("[]"));
  CHECK_FAILS(EXIT_PLAN, "plan.json is not a plan: ", read_text("{} x"));
  CHECK_FAILS(EXIT_PLAN, "plan.json is not a plan: ", read_text("{\"a\":\"\xff\"}"));
  CHECK_FAILS(EXIT_PLAN, "plan.json: format is missing or no int", read_text("{}"));
  CHECK_FAILS(EXIT_PLAN, "plan.json: format is missing or no int", read_text("{\"format\":\"1\"}"));
  CHECK_FAILS(EXIT_PLAN, "a plan of format 2; this recorder reads format 1",
              read_text("{\"format\":2}"));
  CHECK_FAILS(EXIT_PLAN, "plan.json: format is out of range", read_text("{\"format\":-1}"));
}

static void stubs_that_record(void) {
  struct plan plan = read_text(made(OBJECT, PROBE, BACKEND, ""));
  CHECK(!plan.stub_count && !plan.probes[0].by_stub);
  const char *probe = "{'handler':'on_barrier','symbol':'b','offset':64,'object':0,"
                      "'level':'barrier','via':'recording'}";
  plan = read_text(made(OBJECT, probe, BACKEND, ",'stub_page':4096,'stubs':[0,47]"));
  CHECK(plan.probes[0].by_stub);
  CHECK_EQUAL(plan.stub_page, 4096);
  CHECK_EQUAL(plan.stub_count, 2);
  CHECK(plan.stubs[0] && plan.stubs[47] && !plan.stubs[1]);
  CHECK_FAILS(EXIT_PLAN, "plan.json: stubs[1] is out of range",
              read_text(made(OBJECT, probe, BACKEND, ",'stub_page':4096,'stubs':[0,48]")));
  CHECK_FAILS(EXIT_PLAN, "plan.json: stub_page is missing",
              read_text(made(OBJECT, probe, BACKEND, ",'stubs':[0]")));
}

static void each_object_is_told_apart(void) {
  CHECK_FAILS(EXIT_PLAN, "plan.json: objects[0].name is missing",
              read_text(made("{'build_id':'','size':1}", PROBE, "", "")));
  CHECK_FAILS(EXIT_PLAN, "plan.json: objects[1] is no object",
              read_text(made(OBJECT ",7", PROBE, "", "")));
  CHECK_FAILS(EXIT_PLAN, "plan.json: objects[0].sha256 is needed where there is no build id",
              read_text(made("{'name':'a','build_id':'','sha256':'00','size':1}", PROBE, "", "")));
  CHECK_FAILS(EXIT_PLAN, "plan.json: objects[0].size is out of range",
              read_text(made("{'name':'a','build_id':'00','size':-1}", PROBE, "", "")));
}

#define BAD_PROBE(members) made(OBJECT, "{'handler':'h','symbol':'s'," members "}", "", "")

static void each_probe_has_a_place(void) {
  CHECK_FAILS(EXIT_PLAN, "plan.json: probes is empty", read_text(made(OBJECT, "", "", "")));
  CHECK_FAILS(EXIT_PLAN, "plan.json: probes[0].object is none of the objects",
              read_text(BAD_PROBE("'offset':1,'object':1,'level':'graph'")));
  CHECK_FAILS(EXIT_PLAN, "plan.json: probes[0].level is none that this recorder knows",
              read_text(BAD_PROBE("'offset':1,'object':0,'level':'all'")));
  CHECK_FAILS(EXIT_PLAN, "plan.json: probes[0].offset is missing or no int",
              read_text(BAD_PROBE("'offset':1.5,'object':0,'level':'graph'")));
#define BAD_CODE(hex) BAD_PROBE("'offset':1,'object':0,'level':'graph','code':'" hex "'")
  CHECK_FAILS(EXIT_PLAN, "probes[0].code is no hex", read_text(BAD_CODE("f30")));
  CHECK_FAILS(EXIT_PLAN, "probes[0].code is no hex", read_text(BAD_CODE("f3 f")));
  CHECK_FAILS(EXIT_PLAN, "probes[0].code is no hex",
              read_text(BAD_CODE("000102030405060708090a0b0c0d0e0f10")));
  struct plan plan = read_text(BAD_CODE("000102030405060708090a0b0c0d0e0f"));
  CHECK_EQUAL(plan.probes[0].code_size, CODE_MAX);
  CHECK_EQUAL(plan.probes[0].code[15], 15);
}

static void each_backend_is_in_an_object(void) {
  CHECK_FAILS(EXIT_PLAN, "plan.json: backends[0].object is none of the objects",
              read_text(made(OBJECT, PROBE, "{'object':1,'vaddr':1,'name':'CPU'}", "")));
}

static void too_many_probes(void) {
  char *many = calloc(4097, 3);
  for (int i = 0; i < 4096; i++)
    strcpy(many + 2 * i, "7,");
  strcpy(many + 2 * 4096, "7");
  CHECK_FAILS(EXIT_PLAN, "plan.json: probes has too many entries",
              read_text(made(OBJECT, many, "", "")));
  free(many);
}

static void counters_are_asked_for_or_not(void) {
  json_object *notes;
  struct plan plan = read_text(made(OBJECT, PROBE, "", ""));
  CHECK(!plan_counters(&plan, &notes));
  CHECK(!notes);
  plan = read_text(made(OBJECT, PROBE, "",
                        ",'counters':{'events':[{'name':'cycles'},{'name':'instructions'}],"
                        "'notes':['no']}"));
  json_object *events = plan_counters(&plan, &notes);
  CHECK_EQUAL(json_object_array_length(events), 2);
  CHECK_EQUAL(json_object_array_length(notes), 1);
  plan = read_text(made(OBJECT, PROBE, "", ",'counters':{'events':[{}],'notes':[]}"));
  CHECK_FAILS(EXIT_PLAN, "plan.json: counters.events[0].name is missing",
              plan_counters(&plan, &notes));
}

static void there_is_room_for_so_many_ways_to_call(void) {
  struct plan plan = read_text(made(OBJECT, PROBE, "", ""));
  CHECK_EQUAL(plan.interface_count, 0); /* as in plans of before */
  plan = read_text(made(OBJECT, PROBE, "", ",'interface':['decode','remove']"));
  CHECK_EQUAL(plan.interface_count, 2);
  char *names = text("'a'");
  for (int i = 1; i < CALLS_MAX; i++)
    names = text("%s,'a'", names);
  plan = read_text(made(OBJECT, PROBE, "", text(",'interface':[%s]", names)));
  CHECK_EQUAL(plan.interface_count, CALLS_MAX);
  CHECK_FAILS(EXIT_PLAN, "plan.json: interface has too many entries",
              read_text(made(OBJECT, PROBE, "", text(",'interface':[%s,'a']", names))));
}

int main(void) {
  RUN(everything_that_a_plan_says);
  RUN(levels_have_names);
  RUN(files_that_are_no_plans);
  RUN(stubs_that_record);
  RUN(each_object_is_told_apart);
  RUN(each_probe_has_a_place);
  RUN(each_backend_is_in_an_object);
  RUN(too_many_probes);
  RUN(counters_are_asked_for_or_not);
  RUN(there_is_room_for_so_many_ways_to_call);
}
