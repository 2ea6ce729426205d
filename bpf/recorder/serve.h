/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server: profinfer asks, it obeys. It launches and holds a command, and has each process
 * recorded by a child of its own, so that whatever becomes of one recording becomes of no other.
 *
 * A message is a JSON object (message.h). Over the server's own socket profinfer asks with a
 * "verb", and each is answered once, {"answer": VERB, ...}, or {"event": "failed", "verb", "code",
 * "message", "hint"}:
 *
 *   means       loader, transport, attach
 *                 -> transport, attach, attach_reason, boot_clock, task_registers: what a recording
 *                 is made with here
 *   hit_costs   attach, kinds (all without)
 *                 -> sites, intervals, settled, empty_handler_ns (hit_cost.h)
 *   counters    events, notes (as in a plan)
 *                 -> events, notes: those that can be counted here
 *   scheduler   transport
 *   memory        -> what of these can be recorded here
 *   graph_look  pid, offsets, seconds, with the descriptor of a file
 *                 -> arguments: the first two with which the process has entered one of these
 *                 places of the file meanwhile; it is not stopped. None when it has not
 *   ticks         -> problem: why stubs cannot tell times here; "" where they can
 *   launch      argv, audit, user, loader, marks, pass_over
 *                 -> pid: the command, stopped before its first instruction; forks: whether
 *                 children of a process with an engine are stopped when they begin. Nothing is told
 *                 of processes without any of these marks (engine_marks.h) in what they have mapped
 *   follow      pids, loader, marks, pass_over
 *                 -> forks: processes that run, with what they start, are the family
 *   go          pid
 *                 -> it goes on
 *   watch_work  pid, offsets, everywhere, with the descriptor of a file
 *                 -> the process is stopped, too, when it enters one of these places of the file;
 *                 everywhere: and so is what it forks
 *   settle      pid
 *                 -> and not any more
 *   terminate     -> the command is asked to end, after 5 s made to
 *   record      options.h, with descriptors: a socket for this recording, its plan, its capture
 *                 -> pid: of who records
 *
 * Beside answers come events: stopped {pid} (a process of the command's family stands still: it has
 * loaded something; at_work: it has entered such a place, with the first two arguments;
 * after_exec: it is another program now; forked: it begins, and holds the engine that its parent
 * holds), exited
 * {status} (the command; as wait() has it), recorder_exited {pid, status}, load (below).
 *
 * Over a recording's socket come: attached {probes}, progress {seconds, records, lost, tokens,
 * bytes}, note {text}: something to say at once, silent {symbols}: these functions are not called
 * though others of the engine are, over {reason}: the probes are gone, ended {reason, seconds,
 * records, lost, notes, cpu_s, peak_kb, types_peak_kb}: the capture is whole, failed, and load
 * {source}, where BCC is to load: it is answered by {"verb": "loaded", "programs": [names],
 * "maps": [names]} with their descriptors in that order, or with "message" and "hint". Profinfer
 * says: more (a new plan may ride along: files were loaded later, or something is probed in the
 * place of what is silent; answered by attached), leave (the target is another program now), stop
 * {reason}, finish {command_status, notes, hit_cost} in answer to over. The socket's end is a stop
 * and a finish.
 *
 * When the server's own socket ends, everything that is held goes on and everything that records
 * ends as it should.
 */
#ifndef PROFINFER_SERVE_H
#define PROFINFER_SERVE_H

/* Obeys until the socket ends. */
void serve(int socket);

#endif
