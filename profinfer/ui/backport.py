"""Two things of newer Perfetto UIs and two of ours, put into the embedded v52 as it is served.

The files on disk stay as they are. Where the text to change is not found, as in another version of
the UI, nothing is changed: what the address asks for then has effect as far as that version goes.
"""

from __future__ import annotations

NOTICE = b"/* Served by ProfInfer, with changes: see profinfer/ui/backport.py */\n"

_ASK = b'await f(p,e,"Enter regex pattern to match track names...");'
_ALL = b".flatTracks.filter(e=>%s.test(e.name))"
_SOME = b'.flatTracks.filter(n=>!n.headless&&%s.test("path"===by?n.fullPath.join(" > "):n.name))'

# v53: commands that take a regular expression match nothing invisible, and paths when asked to.
# Without it a thread's tracks would be copied twice: its invisible group is called as they are.
_PATHS = (
    (b"callback:async e=>{const t=" + _ASK, b"callback:async(e,by)=>{const t=" + _ASK, 3),
    (b"callback:async(e,t)=>{const r=" + _ASK, b"callback:async(e,t,by)=>{const r=" + _ASK, 2),
    (_ALL % b"t", _SOME % b"t", 3),
    (_ALL % b"r", _SOME % b"r", 2),
)  # fmt: skip

# v54: a note at a time, which an address may ask for.
_UTC_NOTE = b'p.commands.registerCommand({id:"dev.perfetto.AddNoteAtUtcTimestamp"'
_NOTE = (
    b'p.commands.registerCommand({id:"dev.perfetto.AddNoteAtTimestamp",'
    b'name:"Add note at nanosecond timestamp",callback:(t,r)=>{'
    b"p.notes.addNote({timestamp:s.Time.fromRaw(BigInt(t)),text:r})}}),"
)
_LAST_ALLOWED = b'"dev.perfetto.RunQueryAndShowTab"];'
_NOTES = (
    (_UTC_NOTE, _NOTE + _UTC_NOTE, 1),
    (_LAST_ALLOWED, _LAST_ALLOWED[:-2] + b',"dev.perfetto.AddNoteAtTimestamp"];', 1),
)

# Ours: tracks stand in a workspace in the order in which they are copied there, not by what kind of
# thread the UI puts above others.
_COPY, _COPY_GROUP = b".addChildInOrder(e.clone(!0))", b"s.get(a.id)||i).addChildInOrder(n))"
_PARENT = b'((a=d.parent)&&""!==a.name&&'
_ORDER = (
    (_COPY, b".addChildLast(e.clone(!0))", 1),
    (
        _PARENT + _COPY_GROUP,
        b'((a=(a=d.parent)&&""!==a.name&&s.get(a.id))?a.addChildInOrder(n):i.addChildLast(n)))',
        1,
    ),
)

# Ours: counters that name the same scale share it, whatever thread they are of.
_SCALES = ((b"`trackEvent-${o}-`+d", b"`trackEvent-`+d", 1),)


def backport(bundle: bytes) -> bytes:
    """The UI's program with all changes, or without those that it has no place for."""
    changed = bundle
    for changes in (_PATHS, _NOTES, _ORDER, _SCALES):
        if all(changed.count(old) == times for old, _, times in changes):
            for old, new, _ in changes:
                changed = changed.replace(old, new)
    return changed if changed == bundle else NOTICE + changed
