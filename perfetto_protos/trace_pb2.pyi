from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BuiltinClock(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BUILTIN_CLOCK_UNKNOWN: _ClassVar[BuiltinClock]
    BUILTIN_CLOCK_REALTIME: _ClassVar[BuiltinClock]
    BUILTIN_CLOCK_MONOTONIC: _ClassVar[BuiltinClock]
    BUILTIN_CLOCK_BOOTTIME: _ClassVar[BuiltinClock]
BUILTIN_CLOCK_UNKNOWN: BuiltinClock
BUILTIN_CLOCK_REALTIME: BuiltinClock
BUILTIN_CLOCK_MONOTONIC: BuiltinClock
BUILTIN_CLOCK_BOOTTIME: BuiltinClock

class Trace(_message.Message):
    __slots__ = ("packet",)
    PACKET_FIELD_NUMBER: _ClassVar[int]
    packet: _containers.RepeatedCompositeFieldContainer[TracePacket]
    def __init__(self, packet: _Optional[_Iterable[_Union[TracePacket, _Mapping]]] = ...) -> None: ...

class TracePacket(_message.Message):
    __slots__ = ("ftrace_events", "process_tree", "clock_snapshot", "timestamp", "trusted_packet_sequence_id", "track_event", "interned_data", "sequence_flags", "trace_stats", "previous_packet_dropped", "system_info", "trace_packet_defaults", "track_descriptor", "first_packet_on_sequence")
    class SequenceFlags(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SEQ_UNSPECIFIED: _ClassVar[TracePacket.SequenceFlags]
        SEQ_INCREMENTAL_STATE_CLEARED: _ClassVar[TracePacket.SequenceFlags]
        SEQ_NEEDS_INCREMENTAL_STATE: _ClassVar[TracePacket.SequenceFlags]
    SEQ_UNSPECIFIED: TracePacket.SequenceFlags
    SEQ_INCREMENTAL_STATE_CLEARED: TracePacket.SequenceFlags
    SEQ_NEEDS_INCREMENTAL_STATE: TracePacket.SequenceFlags
    class DataLossReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        DATA_LOSS_UNSPECIFIED: _ClassVar[TracePacket.DataLossReason]
        DATA_LOSS_PRESENT: _ClassVar[TracePacket.DataLossReason]
        DATA_LOSS_SMB_FULL: _ClassVar[TracePacket.DataLossReason]
    DATA_LOSS_UNSPECIFIED: TracePacket.DataLossReason
    DATA_LOSS_PRESENT: TracePacket.DataLossReason
    DATA_LOSS_SMB_FULL: TracePacket.DataLossReason
    FTRACE_EVENTS_FIELD_NUMBER: _ClassVar[int]
    PROCESS_TREE_FIELD_NUMBER: _ClassVar[int]
    CLOCK_SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    TRUSTED_PACKET_SEQUENCE_ID_FIELD_NUMBER: _ClassVar[int]
    TRACK_EVENT_FIELD_NUMBER: _ClassVar[int]
    INTERNED_DATA_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FLAGS_FIELD_NUMBER: _ClassVar[int]
    TRACE_STATS_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_PACKET_DROPPED_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_INFO_FIELD_NUMBER: _ClassVar[int]
    TRACE_PACKET_DEFAULTS_FIELD_NUMBER: _ClassVar[int]
    TRACK_DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
    FIRST_PACKET_ON_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ftrace_events: FtraceEventBundle
    process_tree: ProcessTree
    clock_snapshot: ClockSnapshot
    timestamp: int
    trusted_packet_sequence_id: int
    track_event: TrackEvent
    interned_data: InternedData
    sequence_flags: int
    trace_stats: TraceStats
    previous_packet_dropped: int
    system_info: SystemInfo
    trace_packet_defaults: TracePacketDefaults
    track_descriptor: TrackDescriptor
    first_packet_on_sequence: bool
    def __init__(self, ftrace_events: _Optional[_Union[FtraceEventBundle, _Mapping]] = ..., process_tree: _Optional[_Union[ProcessTree, _Mapping]] = ..., clock_snapshot: _Optional[_Union[ClockSnapshot, _Mapping]] = ..., timestamp: _Optional[int] = ..., trusted_packet_sequence_id: _Optional[int] = ..., track_event: _Optional[_Union[TrackEvent, _Mapping]] = ..., interned_data: _Optional[_Union[InternedData, _Mapping]] = ..., sequence_flags: _Optional[int] = ..., trace_stats: _Optional[_Union[TraceStats, _Mapping]] = ..., previous_packet_dropped: _Optional[int] = ..., system_info: _Optional[_Union[SystemInfo, _Mapping]] = ..., trace_packet_defaults: _Optional[_Union[TracePacketDefaults, _Mapping]] = ..., track_descriptor: _Optional[_Union[TrackDescriptor, _Mapping]] = ..., first_packet_on_sequence: _Optional[bool] = ...) -> None: ...

class TracePacketDefaults(_message.Message):
    __slots__ = ("timestamp_clock_id",)
    TIMESTAMP_CLOCK_ID_FIELD_NUMBER: _ClassVar[int]
    timestamp_clock_id: int
    def __init__(self, timestamp_clock_id: _Optional[int] = ...) -> None: ...

class ClockSnapshot(_message.Message):
    __slots__ = ("clocks", "primary_trace_clock")
    class Clock(_message.Message):
        __slots__ = ("clock_id", "timestamp")
        CLOCK_ID_FIELD_NUMBER: _ClassVar[int]
        TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
        clock_id: int
        timestamp: int
        def __init__(self, clock_id: _Optional[int] = ..., timestamp: _Optional[int] = ...) -> None: ...
    CLOCKS_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_TRACE_CLOCK_FIELD_NUMBER: _ClassVar[int]
    clocks: _containers.RepeatedCompositeFieldContainer[ClockSnapshot.Clock]
    primary_trace_clock: BuiltinClock
    def __init__(self, clocks: _Optional[_Iterable[_Union[ClockSnapshot.Clock, _Mapping]]] = ..., primary_trace_clock: _Optional[_Union[BuiltinClock, str]] = ...) -> None: ...

class TraceStats(_message.Message):
    __slots__ = ("buffer_stats", "writer_stats")
    class BufferStats(_message.Message):
        __slots__ = ("bytes_written", "chunks_written", "bytes_read", "chunks_read", "chunks_discarded", "trace_writer_packet_loss")
        BYTES_WRITTEN_FIELD_NUMBER: _ClassVar[int]
        CHUNKS_WRITTEN_FIELD_NUMBER: _ClassVar[int]
        BYTES_READ_FIELD_NUMBER: _ClassVar[int]
        CHUNKS_READ_FIELD_NUMBER: _ClassVar[int]
        CHUNKS_DISCARDED_FIELD_NUMBER: _ClassVar[int]
        TRACE_WRITER_PACKET_LOSS_FIELD_NUMBER: _ClassVar[int]
        bytes_written: int
        chunks_written: int
        bytes_read: int
        chunks_read: int
        chunks_discarded: int
        trace_writer_packet_loss: int
        def __init__(self, bytes_written: _Optional[int] = ..., chunks_written: _Optional[int] = ..., bytes_read: _Optional[int] = ..., chunks_read: _Optional[int] = ..., chunks_discarded: _Optional[int] = ..., trace_writer_packet_loss: _Optional[int] = ...) -> None: ...
    class WriterStats(_message.Message):
        __slots__ = ("sequence_id", "buffer")
        SEQUENCE_ID_FIELD_NUMBER: _ClassVar[int]
        BUFFER_FIELD_NUMBER: _ClassVar[int]
        sequence_id: int
        buffer: int
        def __init__(self, sequence_id: _Optional[int] = ..., buffer: _Optional[int] = ...) -> None: ...
    BUFFER_STATS_FIELD_NUMBER: _ClassVar[int]
    WRITER_STATS_FIELD_NUMBER: _ClassVar[int]
    buffer_stats: _containers.RepeatedCompositeFieldContainer[TraceStats.BufferStats]
    writer_stats: _containers.RepeatedCompositeFieldContainer[TraceStats.WriterStats]
    def __init__(self, buffer_stats: _Optional[_Iterable[_Union[TraceStats.BufferStats, _Mapping]]] = ..., writer_stats: _Optional[_Iterable[_Union[TraceStats.WriterStats, _Mapping]]] = ...) -> None: ...

class SystemInfo(_message.Message):
    __slots__ = ("utsname", "page_size", "num_cpus")
    UTSNAME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    NUM_CPUS_FIELD_NUMBER: _ClassVar[int]
    utsname: Utsname
    page_size: int
    num_cpus: int
    def __init__(self, utsname: _Optional[_Union[Utsname, _Mapping]] = ..., page_size: _Optional[int] = ..., num_cpus: _Optional[int] = ...) -> None: ...

class Utsname(_message.Message):
    __slots__ = ("sysname", "version", "release", "machine")
    SYSNAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    sysname: str
    version: str
    release: str
    machine: str
    def __init__(self, sysname: _Optional[str] = ..., version: _Optional[str] = ..., release: _Optional[str] = ..., machine: _Optional[str] = ...) -> None: ...

class FtraceEventBundle(_message.Message):
    __slots__ = ("cpu", "event", "lost_events", "compact_sched")
    class CompactSched(_message.Message):
        __slots__ = ("switch_timestamp", "switch_prev_state", "switch_next_pid", "switch_next_prio", "intern_table", "switch_next_comm_index", "waking_timestamp", "waking_pid", "waking_target_cpu", "waking_prio", "waking_comm_index")
        SWITCH_TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
        SWITCH_PREV_STATE_FIELD_NUMBER: _ClassVar[int]
        SWITCH_NEXT_PID_FIELD_NUMBER: _ClassVar[int]
        SWITCH_NEXT_PRIO_FIELD_NUMBER: _ClassVar[int]
        INTERN_TABLE_FIELD_NUMBER: _ClassVar[int]
        SWITCH_NEXT_COMM_INDEX_FIELD_NUMBER: _ClassVar[int]
        WAKING_TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
        WAKING_PID_FIELD_NUMBER: _ClassVar[int]
        WAKING_TARGET_CPU_FIELD_NUMBER: _ClassVar[int]
        WAKING_PRIO_FIELD_NUMBER: _ClassVar[int]
        WAKING_COMM_INDEX_FIELD_NUMBER: _ClassVar[int]
        switch_timestamp: _containers.RepeatedScalarFieldContainer[int]
        switch_prev_state: _containers.RepeatedScalarFieldContainer[int]
        switch_next_pid: _containers.RepeatedScalarFieldContainer[int]
        switch_next_prio: _containers.RepeatedScalarFieldContainer[int]
        intern_table: _containers.RepeatedScalarFieldContainer[str]
        switch_next_comm_index: _containers.RepeatedScalarFieldContainer[int]
        waking_timestamp: _containers.RepeatedScalarFieldContainer[int]
        waking_pid: _containers.RepeatedScalarFieldContainer[int]
        waking_target_cpu: _containers.RepeatedScalarFieldContainer[int]
        waking_prio: _containers.RepeatedScalarFieldContainer[int]
        waking_comm_index: _containers.RepeatedScalarFieldContainer[int]
        def __init__(self, switch_timestamp: _Optional[_Iterable[int]] = ..., switch_prev_state: _Optional[_Iterable[int]] = ..., switch_next_pid: _Optional[_Iterable[int]] = ..., switch_next_prio: _Optional[_Iterable[int]] = ..., intern_table: _Optional[_Iterable[str]] = ..., switch_next_comm_index: _Optional[_Iterable[int]] = ..., waking_timestamp: _Optional[_Iterable[int]] = ..., waking_pid: _Optional[_Iterable[int]] = ..., waking_target_cpu: _Optional[_Iterable[int]] = ..., waking_prio: _Optional[_Iterable[int]] = ..., waking_comm_index: _Optional[_Iterable[int]] = ...) -> None: ...
    CPU_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    LOST_EVENTS_FIELD_NUMBER: _ClassVar[int]
    COMPACT_SCHED_FIELD_NUMBER: _ClassVar[int]
    cpu: int
    event: _containers.RepeatedCompositeFieldContainer[FtraceEvent]
    lost_events: bool
    compact_sched: FtraceEventBundle.CompactSched
    def __init__(self, cpu: _Optional[int] = ..., event: _Optional[_Iterable[_Union[FtraceEvent, _Mapping]]] = ..., lost_events: _Optional[bool] = ..., compact_sched: _Optional[_Union[FtraceEventBundle.CompactSched, _Mapping]] = ...) -> None: ...

class FtraceEvent(_message.Message):
    __slots__ = ("timestamp", "pid", "sched_switch", "sched_blocked_reason", "task_newtask", "task_rename", "sched_process_exit", "sched_process_free")
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    SCHED_SWITCH_FIELD_NUMBER: _ClassVar[int]
    SCHED_BLOCKED_REASON_FIELD_NUMBER: _ClassVar[int]
    TASK_NEWTASK_FIELD_NUMBER: _ClassVar[int]
    TASK_RENAME_FIELD_NUMBER: _ClassVar[int]
    SCHED_PROCESS_EXIT_FIELD_NUMBER: _ClassVar[int]
    SCHED_PROCESS_FREE_FIELD_NUMBER: _ClassVar[int]
    timestamp: int
    pid: int
    sched_switch: SchedSwitchFtraceEvent
    sched_blocked_reason: SchedBlockedReasonFtraceEvent
    task_newtask: TaskNewtaskFtraceEvent
    task_rename: TaskRenameFtraceEvent
    sched_process_exit: SchedProcessExitFtraceEvent
    sched_process_free: SchedProcessFreeFtraceEvent
    def __init__(self, timestamp: _Optional[int] = ..., pid: _Optional[int] = ..., sched_switch: _Optional[_Union[SchedSwitchFtraceEvent, _Mapping]] = ..., sched_blocked_reason: _Optional[_Union[SchedBlockedReasonFtraceEvent, _Mapping]] = ..., task_newtask: _Optional[_Union[TaskNewtaskFtraceEvent, _Mapping]] = ..., task_rename: _Optional[_Union[TaskRenameFtraceEvent, _Mapping]] = ..., sched_process_exit: _Optional[_Union[SchedProcessExitFtraceEvent, _Mapping]] = ..., sched_process_free: _Optional[_Union[SchedProcessFreeFtraceEvent, _Mapping]] = ...) -> None: ...

class SchedSwitchFtraceEvent(_message.Message):
    __slots__ = ("prev_comm", "prev_pid", "prev_prio", "prev_state", "next_comm", "next_pid", "next_prio")
    PREV_COMM_FIELD_NUMBER: _ClassVar[int]
    PREV_PID_FIELD_NUMBER: _ClassVar[int]
    PREV_PRIO_FIELD_NUMBER: _ClassVar[int]
    PREV_STATE_FIELD_NUMBER: _ClassVar[int]
    NEXT_COMM_FIELD_NUMBER: _ClassVar[int]
    NEXT_PID_FIELD_NUMBER: _ClassVar[int]
    NEXT_PRIO_FIELD_NUMBER: _ClassVar[int]
    prev_comm: str
    prev_pid: int
    prev_prio: int
    prev_state: int
    next_comm: str
    next_pid: int
    next_prio: int
    def __init__(self, prev_comm: _Optional[str] = ..., prev_pid: _Optional[int] = ..., prev_prio: _Optional[int] = ..., prev_state: _Optional[int] = ..., next_comm: _Optional[str] = ..., next_pid: _Optional[int] = ..., next_prio: _Optional[int] = ...) -> None: ...

class SchedBlockedReasonFtraceEvent(_message.Message):
    __slots__ = ("pid", "caller", "io_wait")
    PID_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    IO_WAIT_FIELD_NUMBER: _ClassVar[int]
    pid: int
    caller: int
    io_wait: int
    def __init__(self, pid: _Optional[int] = ..., caller: _Optional[int] = ..., io_wait: _Optional[int] = ...) -> None: ...

class TaskNewtaskFtraceEvent(_message.Message):
    __slots__ = ("pid", "comm", "clone_flags")
    PID_FIELD_NUMBER: _ClassVar[int]
    COMM_FIELD_NUMBER: _ClassVar[int]
    CLONE_FLAGS_FIELD_NUMBER: _ClassVar[int]
    pid: int
    comm: str
    clone_flags: int
    def __init__(self, pid: _Optional[int] = ..., comm: _Optional[str] = ..., clone_flags: _Optional[int] = ...) -> None: ...

class TaskRenameFtraceEvent(_message.Message):
    __slots__ = ("pid", "oldcomm", "newcomm")
    PID_FIELD_NUMBER: _ClassVar[int]
    OLDCOMM_FIELD_NUMBER: _ClassVar[int]
    NEWCOMM_FIELD_NUMBER: _ClassVar[int]
    pid: int
    oldcomm: str
    newcomm: str
    def __init__(self, pid: _Optional[int] = ..., oldcomm: _Optional[str] = ..., newcomm: _Optional[str] = ...) -> None: ...

class SchedProcessExitFtraceEvent(_message.Message):
    __slots__ = ("comm", "pid")
    COMM_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    comm: str
    pid: int
    def __init__(self, comm: _Optional[str] = ..., pid: _Optional[int] = ...) -> None: ...

class SchedProcessFreeFtraceEvent(_message.Message):
    __slots__ = ("comm", "pid")
    COMM_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    comm: str
    pid: int
    def __init__(self, comm: _Optional[str] = ..., pid: _Optional[int] = ...) -> None: ...

class ProcessTree(_message.Message):
    __slots__ = ("processes", "threads")
    class Thread(_message.Message):
        __slots__ = ("tid", "name", "tgid")
        TID_FIELD_NUMBER: _ClassVar[int]
        NAME_FIELD_NUMBER: _ClassVar[int]
        TGID_FIELD_NUMBER: _ClassVar[int]
        tid: int
        name: str
        tgid: int
        def __init__(self, tid: _Optional[int] = ..., name: _Optional[str] = ..., tgid: _Optional[int] = ...) -> None: ...
    class Process(_message.Message):
        __slots__ = ("pid", "ppid", "cmdline", "cmdline_is_comm")
        PID_FIELD_NUMBER: _ClassVar[int]
        PPID_FIELD_NUMBER: _ClassVar[int]
        CMDLINE_FIELD_NUMBER: _ClassVar[int]
        CMDLINE_IS_COMM_FIELD_NUMBER: _ClassVar[int]
        pid: int
        ppid: int
        cmdline: _containers.RepeatedScalarFieldContainer[str]
        cmdline_is_comm: bool
        def __init__(self, pid: _Optional[int] = ..., ppid: _Optional[int] = ..., cmdline: _Optional[_Iterable[str]] = ..., cmdline_is_comm: _Optional[bool] = ...) -> None: ...
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    processes: _containers.RepeatedCompositeFieldContainer[ProcessTree.Process]
    threads: _containers.RepeatedCompositeFieldContainer[ProcessTree.Thread]
    def __init__(self, processes: _Optional[_Iterable[_Union[ProcessTree.Process, _Mapping]]] = ..., threads: _Optional[_Iterable[_Union[ProcessTree.Thread, _Mapping]]] = ...) -> None: ...

class TrackDescriptor(_message.Message):
    __slots__ = ("uuid", "name", "process", "thread", "parent_uuid", "counter", "child_ordering", "sibling_order_rank", "description")
    class ChildTracksOrdering(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNKNOWN: _ClassVar[TrackDescriptor.ChildTracksOrdering]
        LEXICOGRAPHIC: _ClassVar[TrackDescriptor.ChildTracksOrdering]
        CHRONOLOGICAL: _ClassVar[TrackDescriptor.ChildTracksOrdering]
        EXPLICIT: _ClassVar[TrackDescriptor.ChildTracksOrdering]
    UNKNOWN: TrackDescriptor.ChildTracksOrdering
    LEXICOGRAPHIC: TrackDescriptor.ChildTracksOrdering
    CHRONOLOGICAL: TrackDescriptor.ChildTracksOrdering
    EXPLICIT: TrackDescriptor.ChildTracksOrdering
    UUID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    THREAD_FIELD_NUMBER: _ClassVar[int]
    PARENT_UUID_FIELD_NUMBER: _ClassVar[int]
    COUNTER_FIELD_NUMBER: _ClassVar[int]
    CHILD_ORDERING_FIELD_NUMBER: _ClassVar[int]
    SIBLING_ORDER_RANK_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    uuid: int
    name: str
    process: ProcessDescriptor
    thread: ThreadDescriptor
    parent_uuid: int
    counter: CounterDescriptor
    child_ordering: TrackDescriptor.ChildTracksOrdering
    sibling_order_rank: int
    description: str
    def __init__(self, uuid: _Optional[int] = ..., name: _Optional[str] = ..., process: _Optional[_Union[ProcessDescriptor, _Mapping]] = ..., thread: _Optional[_Union[ThreadDescriptor, _Mapping]] = ..., parent_uuid: _Optional[int] = ..., counter: _Optional[_Union[CounterDescriptor, _Mapping]] = ..., child_ordering: _Optional[_Union[TrackDescriptor.ChildTracksOrdering, str]] = ..., sibling_order_rank: _Optional[int] = ..., description: _Optional[str] = ...) -> None: ...

class ProcessDescriptor(_message.Message):
    __slots__ = ("pid", "cmdline", "process_name")
    PID_FIELD_NUMBER: _ClassVar[int]
    CMDLINE_FIELD_NUMBER: _ClassVar[int]
    PROCESS_NAME_FIELD_NUMBER: _ClassVar[int]
    pid: int
    cmdline: _containers.RepeatedScalarFieldContainer[str]
    process_name: str
    def __init__(self, pid: _Optional[int] = ..., cmdline: _Optional[_Iterable[str]] = ..., process_name: _Optional[str] = ...) -> None: ...

class ThreadDescriptor(_message.Message):
    __slots__ = ("pid", "tid", "thread_name")
    PID_FIELD_NUMBER: _ClassVar[int]
    TID_FIELD_NUMBER: _ClassVar[int]
    THREAD_NAME_FIELD_NUMBER: _ClassVar[int]
    pid: int
    tid: int
    thread_name: str
    def __init__(self, pid: _Optional[int] = ..., tid: _Optional[int] = ..., thread_name: _Optional[str] = ...) -> None: ...

class CounterDescriptor(_message.Message):
    __slots__ = ("unit_multiplier", "unit_name", "y_axis_share_key")
    UNIT_MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    UNIT_NAME_FIELD_NUMBER: _ClassVar[int]
    Y_AXIS_SHARE_KEY_FIELD_NUMBER: _ClassVar[int]
    unit_multiplier: int
    unit_name: str
    y_axis_share_key: str
    def __init__(self, unit_multiplier: _Optional[int] = ..., unit_name: _Optional[str] = ..., y_axis_share_key: _Optional[str] = ...) -> None: ...

class TrackEvent(_message.Message):
    __slots__ = ("category_iids", "debug_annotations", "type", "name_iid", "track_uuid", "extra_counter_values", "categories", "name", "counter_value", "extra_counter_track_uuids", "double_counter_value", "correlation_id_str_iid")
    class Type(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        TYPE_UNSPECIFIED: _ClassVar[TrackEvent.Type]
        TYPE_SLICE_BEGIN: _ClassVar[TrackEvent.Type]
        TYPE_SLICE_END: _ClassVar[TrackEvent.Type]
        TYPE_INSTANT: _ClassVar[TrackEvent.Type]
        TYPE_COUNTER: _ClassVar[TrackEvent.Type]
    TYPE_UNSPECIFIED: TrackEvent.Type
    TYPE_SLICE_BEGIN: TrackEvent.Type
    TYPE_SLICE_END: TrackEvent.Type
    TYPE_INSTANT: TrackEvent.Type
    TYPE_COUNTER: TrackEvent.Type
    CATEGORY_IIDS_FIELD_NUMBER: _ClassVar[int]
    DEBUG_ANNOTATIONS_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    NAME_IID_FIELD_NUMBER: _ClassVar[int]
    TRACK_UUID_FIELD_NUMBER: _ClassVar[int]
    EXTRA_COUNTER_VALUES_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    COUNTER_VALUE_FIELD_NUMBER: _ClassVar[int]
    EXTRA_COUNTER_TRACK_UUIDS_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_COUNTER_VALUE_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_ID_STR_IID_FIELD_NUMBER: _ClassVar[int]
    category_iids: _containers.RepeatedScalarFieldContainer[int]
    debug_annotations: _containers.RepeatedCompositeFieldContainer[DebugAnnotation]
    type: TrackEvent.Type
    name_iid: int
    track_uuid: int
    extra_counter_values: _containers.RepeatedScalarFieldContainer[int]
    categories: _containers.RepeatedScalarFieldContainer[str]
    name: str
    counter_value: int
    extra_counter_track_uuids: _containers.RepeatedScalarFieldContainer[int]
    double_counter_value: float
    correlation_id_str_iid: int
    def __init__(self, category_iids: _Optional[_Iterable[int]] = ..., debug_annotations: _Optional[_Iterable[_Union[DebugAnnotation, _Mapping]]] = ..., type: _Optional[_Union[TrackEvent.Type, str]] = ..., name_iid: _Optional[int] = ..., track_uuid: _Optional[int] = ..., extra_counter_values: _Optional[_Iterable[int]] = ..., categories: _Optional[_Iterable[str]] = ..., name: _Optional[str] = ..., counter_value: _Optional[int] = ..., extra_counter_track_uuids: _Optional[_Iterable[int]] = ..., double_counter_value: _Optional[float] = ..., correlation_id_str_iid: _Optional[int] = ...) -> None: ...

class DebugAnnotation(_message.Message):
    __slots__ = ("name_iid", "bool_value", "uint_value", "int_value", "double_value", "string_value", "name", "dict_entries", "array_values", "string_value_iid")
    NAME_IID_FIELD_NUMBER: _ClassVar[int]
    BOOL_VALUE_FIELD_NUMBER: _ClassVar[int]
    UINT_VALUE_FIELD_NUMBER: _ClassVar[int]
    INT_VALUE_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_VALUE_FIELD_NUMBER: _ClassVar[int]
    STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DICT_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    ARRAY_VALUES_FIELD_NUMBER: _ClassVar[int]
    STRING_VALUE_IID_FIELD_NUMBER: _ClassVar[int]
    name_iid: int
    bool_value: bool
    uint_value: int
    int_value: int
    double_value: float
    string_value: str
    name: str
    dict_entries: _containers.RepeatedCompositeFieldContainer[DebugAnnotation]
    array_values: _containers.RepeatedCompositeFieldContainer[DebugAnnotation]
    string_value_iid: int
    def __init__(self, name_iid: _Optional[int] = ..., bool_value: _Optional[bool] = ..., uint_value: _Optional[int] = ..., int_value: _Optional[int] = ..., double_value: _Optional[float] = ..., string_value: _Optional[str] = ..., name: _Optional[str] = ..., dict_entries: _Optional[_Iterable[_Union[DebugAnnotation, _Mapping]]] = ..., array_values: _Optional[_Iterable[_Union[DebugAnnotation, _Mapping]]] = ..., string_value_iid: _Optional[int] = ...) -> None: ...

class InternedData(_message.Message):
    __slots__ = ("event_categories", "event_names", "debug_annotation_names", "kernel_symbols", "debug_annotation_string_values", "correlation_id_str")
    EVENT_CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    EVENT_NAMES_FIELD_NUMBER: _ClassVar[int]
    DEBUG_ANNOTATION_NAMES_FIELD_NUMBER: _ClassVar[int]
    KERNEL_SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    DEBUG_ANNOTATION_STRING_VALUES_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_ID_STR_FIELD_NUMBER: _ClassVar[int]
    event_categories: _containers.RepeatedCompositeFieldContainer[EventCategory]
    event_names: _containers.RepeatedCompositeFieldContainer[EventName]
    debug_annotation_names: _containers.RepeatedCompositeFieldContainer[DebugAnnotationName]
    kernel_symbols: _containers.RepeatedCompositeFieldContainer[InternedString]
    debug_annotation_string_values: _containers.RepeatedCompositeFieldContainer[InternedString]
    correlation_id_str: _containers.RepeatedCompositeFieldContainer[InternedString]
    def __init__(self, event_categories: _Optional[_Iterable[_Union[EventCategory, _Mapping]]] = ..., event_names: _Optional[_Iterable[_Union[EventName, _Mapping]]] = ..., debug_annotation_names: _Optional[_Iterable[_Union[DebugAnnotationName, _Mapping]]] = ..., kernel_symbols: _Optional[_Iterable[_Union[InternedString, _Mapping]]] = ..., debug_annotation_string_values: _Optional[_Iterable[_Union[InternedString, _Mapping]]] = ..., correlation_id_str: _Optional[_Iterable[_Union[InternedString, _Mapping]]] = ...) -> None: ...

class EventCategory(_message.Message):
    __slots__ = ("iid", "name")
    IID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    iid: int
    name: str
    def __init__(self, iid: _Optional[int] = ..., name: _Optional[str] = ...) -> None: ...

class EventName(_message.Message):
    __slots__ = ("iid", "name")
    IID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    iid: int
    name: str
    def __init__(self, iid: _Optional[int] = ..., name: _Optional[str] = ...) -> None: ...

class DebugAnnotationName(_message.Message):
    __slots__ = ("iid", "name")
    IID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    iid: int
    name: str
    def __init__(self, iid: _Optional[int] = ..., name: _Optional[str] = ...) -> None: ...

class InternedString(_message.Message):
    __slots__ = ("iid", "str")
    IID_FIELD_NUMBER: _ClassVar[int]
    STR_FIELD_NUMBER: _ClassVar[int]
    iid: int
    str: bytes
    def __init__(self, iid: _Optional[int] = ..., str: _Optional[bytes] = ...) -> None: ...
